package main_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/internal/influxtest"
	"github.com/fairlead-hub/fairlead/internal/load"
)

// chaosDevices is how many devices send while things break.
const chaosDevices = 20

// everlasting is a load that only ends with its hub.
func everlasting() load.Spec {
	return load.Spec{Window: 16, Measure: 10 * time.Minute, Settle: time.Second}
}

// TestKilledHubKeepsAllAcknowledged kills the hub under load again and again, and asks InfluxDB in the end.
func TestKilledHubKeepsAllAcknowledged(t *testing.T) {
	db := influxtest.Start(t)
	want := hubWanted{Dir: t.TempDir(), InfluxURL: db.URL, InfluxToken: db.Token, Devices: chaosDevices}
	var l ledger
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range killRounds {
		hub, up := startHubPart(t, want)
		g := l.load(t, up, everlasting())
		time.Sleep(time.Duration(100+rnd.IntN(900)) * time.Millisecond) // the hub dies at any moment, that is the point
		hub.kill()
		g.wait()
	}
	_, _ = startHubPart(t, want) // it ends with the test
	a := l.settled(t, time.Minute, func(q string) ([]influxtest.Series, error) { return db.Query(context.Background(), q) })
	t.Logf("rounds=%d %v", killRounds, a)
	wantWhole(t, a)
}
