package broker_test

import (
	"fmt"
	"sync"
	"testing"

	v5 "github.com/mochi-mqtt/server/v2/packets"
)

// Clients that leave while the broker stops do not hold it up.
func TestStopWhileClientsLeave(t *testing.T) {
	for range 50 {
		b, _, stop := start(t)
		var clients []client5
		for i := range 50 {
			c, _ := hello5(t, b, 4, v5.ConnectParams{ClientIdentifier: fmt.Sprint(i), Username: []byte("site"), Password: []byte("pw"), Clean: true}, v5.Properties{})
			clients = append(clients, c)
		}
		var leaving sync.WaitGroup
		for _, c := range clients {
			leaving.Go(func() { _ = c.Close() })
		}
		stop()
		leaving.Wait()
		if t.Failed() {
			return
		}
	}
}
