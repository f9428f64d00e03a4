package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	influxdb2 "github.com/influxdata/influxdb-client-go/v2"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/internal/bus"
	"github.com/fairlead-hub/fairlead/internal/load"
)

func openBenchBus(ctx context.Context, dir string) (*bus.Bus, error) {
	return bus.Open(ctx, bus.Options{
		Dir: dir, Node: "bench", Sync: true, Log: slog.New(slog.DiscardHandler),
		Sizes: bus.Sizes{TelemetryBytes: 4 << 30, DeadletterKeep: time.Hour, CommandsKeep: time.Hour},
	})
}

// frameBytes is the size of a frame in the reference.
const frameBytes = 200

// outstanding is how many of the reference's messages may be unacknowledged.
const outstanding = 1000

// perMessage is how many frames a second the log takes when each is a message of its own.
func perMessage(ctx context.Context, dir string, during time.Duration) (perSecond float64, err error) {
	b, err := openBenchBus(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	frame := make([]byte, frameBytes)
	var window []jetstream.PubAckFuture
	n, start := 0, time.Now()
	for going := true; going || len(window) > 0; {
		if going = time.Since(start) < during; going && len(window) < outstanding {
			f, err := b.JetStream().PublishAsync(bus.TelemetrySubject, frame)
			if err != nil {
				return 0, fmt.Errorf("publish: %w", err)
			}
			window = append(window, f)
			continue
		}
		select {
		case <-window[0].Ok():
			window = window[1:]
			n++
		case err := <-window[0].Err():
			return 0, fmt.Errorf("publish: %w", err)
		}
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// countLog is how many points the log of a hub that is gone holds.
func countLog(ctx context.Context, dir string) (n int64, err error) {
	b, err := openBenchBus(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	stream, err := b.Stream(ctx, bus.StreamTelemetry)
	if err != nil {
		return 0, err
	}
	info, err := stream.Info(ctx)
	if err != nil || info.State.Msgs == 0 {
		return 0, err
	}
	cons, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return 0, fmt.Errorf("read the log: %w", err)
	}
	it, err := cons.Messages(jetstream.PullMaxBytes(8 << 20))
	if err != nil {
		return 0, fmt.Errorf("read the log: %w", err)
	}
	defer it.Stop()
	for range info.State.Msgs {
		msg, err := it.Next()
		if err != nil {
			return n, fmt.Errorf("read the log: %w", err)
		}
		lines, err := ingest.CountLines(msg.Data())
		if err != nil {
			return n, err
		}
		n += int64(lines)
	}
	return n, nil
}

// direct is what InfluxDB takes from its own client.
type direct struct {
	perSecond float64
	cpu       float64 // seconds of influxd a point
}

// The direct load: as InfluxDB recommends, in a few writers.
const (
	directLines   = 5000
	directWriters = 4
)

// directLoad writes ready-made lines of 3 fields of so many devices into an influxd of its own.
func directLoad(ctx context.Context, dir string, devices int, during time.Duration) (d direct, err error) {
	store, err := startInflux(ctx, dir)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, store.stop(), os.RemoveAll(dir)) }()
	client := influxdb2.NewClientWithOptions(store.url, "", influxdb2.DefaultOptions().SetPrecision(time.Nanosecond))
	defer client.Close()
	before, err := load.CPU(store.cmd.Process.Pid)
	if err != nil {
		return d, err
	}
	start := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	sent := make([]int, directWriters)
	for w := range directWriters {
		g.Go(func() error {
			api := client.WriteAPIBlocking("", influxDatabase)
			lines := newLines(devices, w)
			for time.Since(start) < during {
				if err := api.WriteRecord(gctx, lines.next()); err != nil {
					return fmt.Errorf("direct load: %w", err)
				}
				sent[w] += directLines
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return d, err
	}
	took := time.Since(start).Seconds()
	after, err := load.CPU(store.cmd.Process.Pid)
	if err != nil {
		return d, err
	}
	want := 0
	for _, n := range sent {
		want += n
	}
	got, err := store.count(ctx)
	if err != nil {
		return d, err
	}
	if got != int64(want) {
		return d, fmt.Errorf("direct load: %d points sent, %d stored", want, got)
	}
	return direct{float64(want) / took, (after - before) / float64(want)}, nil
}

// lines makes bodies whose text is ready but for the times.
type lines struct {
	body []byte
	at   []int // of each line's time in milliseconds
	time int64
}

// newLines gives each writer devices of its own.
func newLines(devices, writer int) *lines {
	l := &lines{time: time.Now().Add(-24 * time.Hour).UnixMilli()}
	for i := range directLines {
		device := (i*directWriters + writer) % devices
		l.body = fmt.Appendf(l.body, "bench,device=bench-%05d temp=2%d.%02d,humidity=4%d.2,voltage=3.29 ", device, i/5%10, i*7%100, device%10)
		l.at = append(l.at, len(l.body))
		l.body = append(strconv.AppendInt(l.body, l.time, 10), "000000\n"...)
	}
	return l
}

// next returns the next body: the same lines, each a millisecond later than any before.
func (l *lines) next() string {
	for _, at := range l.at {
		l.time++
		strconv.AppendInt(l.body[:at], l.time, 10)
	}
	return string(l.body)
}
