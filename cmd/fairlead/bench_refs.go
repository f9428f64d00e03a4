package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/internal/bus"
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
