package main_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/internal/influxtest"
	"github.com/fairlead-hub/fairlead/internal/load"
)

// outage is one way in which InfluxDB can be away.
type outage struct {
	name      string
	last      time.Duration
	out, back func(db *influxtest.Server, proxy *faulty)
	proxied   bool
}

func outages() []outage {
	signalled := func(s syscall.Signal) func(*influxtest.Server, *faulty) {
		return func(db *influxtest.Server, _ *faulty) { _ = syscall.Kill(db.PID(), s) }
	}
	restart := func(db *influxtest.Server, _ *faulty) { db.Restart() }
	answers := func(f fault) func(*influxtest.Server, *faulty) {
		return func(_ *influxtest.Server, proxy *faulty) { proxy.set(f) }
	}
	stop := func(db *influxtest.Server, _ *faulty) { db.Stop() }
	all := []outage{
		{"stopped", outageTime, stop, restart, false},
		{"killed", outageTime, func(db *influxtest.Server, _ *faulty) { db.Kill() }, restart, false},
		{"frozen (SIGSTOP)", outageTime, signalled(syscall.SIGSTOP), signalled(syscall.SIGCONT), false},
		{"answers 503", outageTime, answers(unavailable), answers(nil), true},
		{"hangs", outageTime, answers(hang), answers(nil), true},
	}[:outageKinds]
	if longOutage > 0 {
		all = append(all, outage{"stopped for long", longOutage, stop, restart, false})
	}
	return all
}

// framePoints is how many points a frame has while InfluxDB is away.
const framePoints = 10

// drainPoll is how often a drain is looked at.
const drainPoll = 250 * time.Millisecond

// flatMemory is by how much the hub's memory may grow while InfluxDB is away: the batches that the writer holds (64 MiB)
// and as much again for the collector. What waits is on disk, and is several times as much in a long outage.
const flatMemory = 128 << 20

// TestChaosInfluxAwayLosesNothing takes the real influxd away under load and brings it back.
func TestChaosInfluxAwayLosesNothing(t *testing.T) {
	for _, o := range outages() {
		t.Run(o.name, o.run)
	}
}

func (o outage) run(t *testing.T) {
	db := influxtest.Start(t)
	takes := directRate(t, db)
	var proxy *faulty
	want := hubWanted{Dir: t.TempDir(), InfluxURL: db.URL, InfluxToken: db.Token, Devices: chaosDevices}
	if o.proxied {
		proxy = startFaulty(t, db.URL)
		want.InfluxURL = proxy.URL
	}
	_, up := startHubPart(t, want)
	var l ledger
	g := l.load(t, up, load.Spec{
		Rate: outageRate / chaosDevices / framePoints, Points: framePoints, Window: 16,
		Measure: o.last + afterOutage, Settle: 20 * time.Second,
	})
	memory := watchMemory(t, up.PID)
	points := func() float64 { return metric(t, up, "fairlead_ingest_points_total") }
	until(t, "points", func() bool { return points() > outageRate/2 })
	time.Sleep(min(o.last, 10*time.Second)) // the same load while all is well, to compare with
	before := rss(t, up.PID)

	o.out(db, proxy)
	g.next()
	time.Sleep(o.last)
	grown := rss(t, up.PID) - before
	waiting := points() - metric(t, up, "fairlead_ingest_write_lines_total")
	written := func() (lines, writes float64) {
		return metric(t, up, "fairlead_ingest_write_lines_total"), metric(t, up, "fairlead_ingest_write_seconds_count")
	}
	lines, writes := written()
	o.back(db, proxy)
	g.next()
	back := time.Now()
	for points()-metric(t, up, "fairlead_ingest_write_lines_total") > outageRate/2 && time.Since(back) < afterOutage {
		time.Sleep(drainPoll) // each look costs the hub some milliseconds of a processor that the drain wants
	}
	drained := time.Since(back)
	linesThen, writesThen := written()
	r := g.stop()
	a := l.settledPoints(t, framePoints, afterOutage, func(q string) ([]influxtest.Series, error) { return db.Query(context.Background(), q) })
	wantWhole(t, a)
	if r.Broken > 0 {
		t.Errorf("%d connections broke", r.Broken)
	}
	ideal := o.last.Seconds() * outageRate / (takes - outageRate)
	t.Logf("influxd %s for %s at %d points/s: %v", o.name, o.last, outageRate, a)
	t.Logf("%.0f points waited; rss +%d MiB while away: %s", waiting, grown>>20, memory())
	for i, name := range []string{"before", "away", "catching up"} {
		p := r.Phases[i]
		t.Logf("ack %-11s frames=%d p50=%s p99=%s max=%s; p99 %.2f x", name, p.Frames, p.P50, p.P99, p.Max, float64(p.P99)/float64(r.Phases[0].P99))
	}
	t.Logf("drained in %s by writes of %.0f lines; influxd alone takes %.0f points/s, so outage*rate/(that-rate) = %.1fs: %.1f x",
		drained.Round(100*time.Millisecond), (linesThen-lines)/max(writesThen-writes, 1), takes, ideal, drained.Seconds()/ideal)
	if grown > flatMemory {
		t.Errorf("memory grew by %d MiB while influxd was away", grown>>20)
	}
}

// next tells the loader that another phase begins.
func (g loading) next() {
	g.t.Helper()
	if _, err := g.stdin.Write([]byte("1\n")); err != nil {
		g.t.Fatal(err)
	}
}

// directRate is how many points a second influxd takes from ready-made bodies.
func directRate(t *testing.T, db *influxtest.Server) float64 {
	t.Helper()
	const writers, lines, bodies = 4, 5000, 10
	start := time.Now()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for b := range bodies {
				var body strings.Builder
				for i := range lines {
					fmt.Fprintf(&body, "direct,device=d%d-%d temp=21.5,humidity=40.2,voltage=3.29 %d\n", w, i%50, 1_700_000_000_000_000_000+int64(b*lines+i)*1_000_000)
				}
				if code, text, err := db.Write(t.Context(), body.String()); err != nil || code != http.StatusNoContent {
					t.Errorf("%d %s %v", code, text, err)
				}
			}
		})
	}
	wg.Wait()
	return writers * lines * bodies / time.Since(start).Seconds()
}

// watchMemory samples a process's memory about twenty times an outage, until it is asked what it saw.
func watchMemory(t *testing.T, pid int) func() string {
	var seen []string
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var failed atomic.Bool
	go func() {
		defer close(done)
		tick := time.NewTicker(max(outageTime/20, 100*time.Millisecond))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				n, err := residentBytes(pid)
				if err != nil {
					failed.Store(true)
					return
				}
				seen = append(seen, fmt.Sprint(n>>20))
			case <-ctx.Done():
				return
			}
		}
	}()
	stop := func() string {
		cancel()
		<-done
		if failed.Load() {
			t.Error("the hub's memory could not be read")
		}
		return strings.Join(slices.Compact(seen), " ") + " MiB"
	}
	t.Cleanup(func() { stop() })
	return stop
}

// settledPoints is settled for frames of several points: the times of a device's points are in a row all the same.
func (l *ledger) settledPoints(t testing.TB, points uint64, patience time.Duration, query func(string) ([]influxtest.Series, error)) audited {
	t.Helper()
	p := ledger{start: l.start}
	for _, m := range l.marks {
		p.marks = append(p.marks, load.Mark{Sent: m.Sent * points, Acked: m.Acked * points})
	}
	return p.settled(t, patience, query)
}

// rss is the resident memory of a process in bytes.
func rss(t testing.TB, pid int) int64 {
	t.Helper()
	n, err := residentBytes(pid)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func residentBytes(pid int) (int64, error) {
	var size, pages int64
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		return 0, err
	}
	return pages * int64(os.Getpagesize()), nil
}
