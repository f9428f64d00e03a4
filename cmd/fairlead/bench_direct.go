package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	influxdb2 "github.com/influxdata/influxdb-client-go/v2"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-hub/fairlead/internal/load"
)

// The direct load: as InfluxDB recommends, in a few writers.
const (
	directLines   = 5000
	directWriters = 4
)

// directSpec is what is written straight to InfluxDB: lines of 3 fields, as devices' points become.
type directSpec struct {
	devices int
	units   int           // series of one device, told apart by the tag unit; 0: one without it
	passes  int           // over all series; 0: as many as fit the time
	during  time.Duration // where passes is 0
}

// directLoad writes ready-made lines into an influxd of its own by the client library's blocking API.
func directLoad(ctx context.Context, dir string, spec directSpec) (s side, err error) {
	store, err := startInflux(ctx, dir)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, store.stop(), os.RemoveAll(dir)) }()
	client := influxdb2.NewClientWithOptions(store.url, "", influxdb2.DefaultOptions().SetPrecision(time.Nanosecond))
	defer client.Close()
	ready := make([]*lines, directWriters)
	for w := range ready {
		ready[w] = newLines(spec, w)
	}
	before, err := load.CPU(store.cmd.Process.Pid)
	if err != nil {
		return s, err
	}
	start := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	sent := make([]int, directWriters)
	for w, l := range ready {
		g.Go(func() error {
			api := client.WriteAPIBlocking("", influxDatabase)
			for l.passes < spec.passes || spec.passes == 0 && time.Since(start) < spec.during {
				body, n := l.next()
				if err := api.WriteRecord(gctx, body); err != nil {
					return fmt.Errorf("direct load: %w", err)
				}
				sent[w] += n
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return s, err
	}
	took := time.Since(start).Seconds()
	after, err := load.CPU(store.cmd.Process.Pid)
	if err != nil {
		return s, err
	}
	want := int64(0)
	for _, n := range sent {
		want += int64(n)
	}
	got, err := store.count(ctx)
	if err != nil {
		return s, err
	}
	if got != want {
		return s, fmt.Errorf("direct load: %d points sent, %d stored", want, got)
	}
	return side{acked: float64(want) / took, stored: float64(want) / took, points: want, cpu: []float64{(after - before) / float64(want)}}, nil
}

// lines makes bodies whose text is ready but for the times.
type lines struct {
	bodies []body
	turn   int
	passes int // over all bodies, done
	time   int64
}

type body struct {
	text []byte
	at   []int // of each line's time in milliseconds
}

// newLines gives each writer series of its own.
func newLines(spec directSpec, writer int) *lines {
	l := &lines{time: time.Now().Add(-24 * time.Hour).UnixMilli()}
	series := spec.devices * max(spec.units, 1) / directWriters
	for from := 0; from < max(series, directLines); from += directLines {
		n := directLines
		if series > directLines {
			n = min(n, series-from)
		}
		var b body
		for i := from; i < from+n; i++ {
			number := i%series*directWriters + writer
			b.text = fmt.Appendf(b.text, "bench,device=bench-%05d", number%spec.devices)
			if spec.units > 0 {
				b.text = fmt.Appendf(b.text, ",unit=u%04d", number/spec.devices)
			}
			b.text = fmt.Appendf(b.text, " temp=2%d.%02d,humidity=4%d.2,voltage=3.29 ", i/5%10, i*7%100, number%10)
			b.at = append(b.at, len(b.text))
			b.text = append(strconv.AppendInt(b.text, l.time, 10), "000000\n"...)
		}
		l.bodies = append(l.bodies, b)
	}
	return l
}

// next returns the next body and how many lines it has, each a millisecond later than any before.
func (l *lines) next() (string, int) {
	b := &l.bodies[l.turn]
	if l.turn++; l.turn == len(l.bodies) {
		l.turn = 0
		l.passes++
	}
	for _, at := range b.at {
		l.time++
		strconv.AppendInt(b.text[:at], l.time, 10)
	}
	return string(b.text), len(b.at)
}
