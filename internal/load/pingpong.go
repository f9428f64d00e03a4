package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// PingPong is the round trip of a bare server: what a message and its answer take without a hub between them.
type PingPong struct{ P50, P99, Max time.Duration }

// RunPingPong sends an Echo so many messages a second and measures from when each was due to its answer.
func RunPingPong(ctx context.Context, url string, rate float64, during time.Duration) (p PingPong, err error) {
	d, err := newDialer(Target{URL: url, Tokens: []string{"none"}})
	if err != nil {
		return p, err
	}
	conn, _, err := d.dial(ctx, 0)
	if err != nil {
		return p, err
	}
	var mu sync.Mutex
	due := make(map[int]time.Time) // guarded by mu
	var h histogram                // owned by the reader
	var reading sync.WaitGroup
	reading.Go(func() {
		_ = answers(conn, func(n int, at time.Time) { // it ends with the connection
			mu.Lock()
			defer mu.Unlock()
			h.record(at.Sub(due[n]))
			delete(due, n)
		})
	})
	sending, stop := context.WithTimeout(ctx, during)
	defer stop()
	byClock(sending, rate, func(i int, at time.Time) {
		mu.Lock()
		due[i+1] = at
		mu.Unlock()
		if _, werr := conn.Write(masked([]byte(`{"seq":` + strconv.Itoa(i+1) + `,"text":"` + orderText + `"}`))); werr != nil {
			err = werr
			stop()
		}
	})
	for until := time.Now().Add(time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		mu.Lock()
		n := len(due)
		mu.Unlock()
		if n == 0 {
			break
		}
	}
	err = errors.Join(err, conn.Close())
	reading.Wait()
	if len(due) > 0 && err == nil {
		err = fmt.Errorf("bare server: %d messages without an answer", len(due))
	}
	return PingPong{h.quantile(0.50), h.quantile(0.99), h.quantile(1)}, err
}

// orderText makes a ping about as long as the frame of a command.
const orderText = "name set_interval, params seconds 10, attempt 1, expires 1763832060123, timeout_ms 20000"

// answers reads the bare server's answers until the connection ends.
func answers(conn net.Conn, each func(n int, at time.Time)) error {
	buf := make([]byte, 0, readSize)
	for {
		n, err := conn.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return err
		}
		at := time.Now()
		buf = buf[:len(buf)+n]
		used, err := split(buf, func(_ byte, payload []byte) error {
			seq, err := strconv.Atoi(string(payload[len(ackPrefix) : len(payload)-1]))
			if err == nil {
				each(seq, at)
			}
			return err
		})
		if err != nil {
			return err
		}
		buf = buf[:copy(buf, buf[used:])]
	}
}
