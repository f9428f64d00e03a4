package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/influxdata/line-protocol/v2/lineprotocol"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// outletPrefix begins the names of the outlets' cursors in the log.
const outletPrefix = "out-"

// outletIdle is how long an outlet that nobody opens any more keeps its cursor.
const outletIdle = 7 * 24 * time.Hour

// Outlet is a durable cursor in the log for somebody who passes stored points on, such as a bridge. It holds the log back
// only so far (outletBacklog, outletShare): then the oldest is cut away from under it, and counted.
type Outlet struct {
	log  Log
	name string
	slog *slog.Logger
	cons jetstream.Consumer // owned by Next
	last uint64             // stream sequence of the last batch; owned by Next
	lost atomic.Uint64
}

// NewOutlet returns the outlet of that name, which is a device id's worth of characters.
func NewOutlet(log Log, name string, slog *slog.Logger) (*Outlet, error) {
	if err := wire.CheckID(name); err != nil {
		return nil, fmt.Errorf("outlet: %w", err)
	}
	return &Outlet{log: log, name: outletPrefix + name, slog: slog}, nil
}

// StoredPoint is one point of the log. Its slices are its own.
type StoredPoint struct {
	Device string
	Point  wire.Point
}

// outletWait is how long one request for a batch waits at the server.
const outletWait = 5 * time.Second

// Next returns the points of the next batch, waiting for one. done moves the cursor past it, durably; a batch that was not
// done comes again in the next process. An outlet that is new begins with what is stored from now on.
func (o *Outlet) Next(ctx context.Context) (points []StoredPoint, done func() error, err error) {
	if o.cons == nil {
		o.cons, err = o.log.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
			Durable: o.name, AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute, MaxAckPending: 1, MaxDeliver: -1,
			DeliverPolicy: jetstream.DeliverNewPolicy, InactiveThreshold: outletIdle,
		})
		if err != nil {
			o.cons = nil
			return nil, nil, fmt.Errorf("cursor %s: %w", o.name, err)
		}
	}
	for {
		msg, err := o.fetch(ctx)
		if err != nil {
			return nil, nil, err
		}
		if msg == nil {
			continue
		}
		meta, err := msg.Metadata()
		if err != nil {
			return nil, nil, fmt.Errorf("cursor %s: %w", o.name, err)
		}
		if gap := meta.Sequence.Stream - o.last; o.last != 0 && gap > 1 {
			o.lost.Add(gap - 1)
			o.slog.Warn("outlet fell too far behind; batches were passed over", "outlet", o.name, "batches", gap-1)
		}
		o.last = meta.Sequence.Stream
		points, err := storedPoints(msg.Data())
		if err != nil {
			o.slog.Error("batch not passed on", "outlet", o.name, "stream_seq", o.last, "err", err)
			if err := msg.Ack(); err != nil {
				return nil, nil, fmt.Errorf("cursor %s: %w", o.name, err)
			}
			continue
		}
		return points, func() error { return msg.DoubleAck(ctx) }, nil
	}
}

// fetch asks for one message; nil if there was none for a while.
func (o *Outlet) fetch(ctx context.Context) (jetstream.Msg, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, outletWait)
	defer cancel()
	msg, err := o.cons.Next(jetstream.FetchContext(wait))
	switch {
	case err == nil:
		return msg, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, jetstream.ErrNoMessages), errors.Is(err, jetstream.ErrMsgIteratorClosed):
		return nil, nil
	}
	o.cons = nil // made anew by the next call
	return nil, fmt.Errorf("cursor %s: %w", o.name, err)
}

// Lost is how many batches were cut away before the outlet had them.
func (o *Outlet) Lost() uint64 { return o.lost.Load() }

// storedPoints reads a batch back into points.
func storedPoints(batch []byte) ([]StoredPoint, error) {
	_, lanes, err := readBatch(batch)
	if err != nil {
		return nil, err
	}
	var out []StoredPoint
	for _, l := range lanes {
		dec := lineprotocol.NewDecoderWithBytes(l.data)
		for dec.Next() {
			p, err := storedPoint(dec)
			if err != nil {
				return nil, err
			}
			out = append(out, p)
		}
	}
	return out, nil
}

func storedPoint(dec *lineprotocol.Decoder) (p StoredPoint, err error) {
	m, err := dec.Measurement()
	if err != nil {
		return p, fmt.Errorf("%w: %w", ErrBatch, err)
	}
	p.Point.Measurement = append([]byte(nil), m...)
	for {
		key, value, err := dec.NextTag()
		if err != nil {
			return p, fmt.Errorf("%w: %w", ErrBatch, err)
		}
		if key == nil {
			break
		}
		if string(key) == deviceTag {
			p.Device = string(value)
			continue
		}
		p.Point.Tags = append(p.Point.Tags, wire.Tag{Key: append([]byte(nil), key...), Value: append([]byte(nil), value...)})
	}
	for {
		key, value, err := dec.NextField()
		if err != nil {
			return p, fmt.Errorf("%w: %w", ErrBatch, err)
		}
		if key == nil {
			break
		}
		p.Point.Fields = append(p.Point.Fields, storedField(string(key), value))
	}
	at, err := dec.Time(lineprotocol.Nanosecond, time.Time{})
	if err != nil {
		return p, fmt.Errorf("%w: %w", ErrBatch, err)
	}
	p.Point.Time, p.Point.HasTime = at.UnixNano(), true
	return p, nil
}

func storedField(key string, v lineprotocol.Value) wire.Field {
	switch v.Kind() {
	case lineprotocol.Bool:
		return wire.NewBool(key, v.BoolV())
	case lineprotocol.String:
		return wire.NewText(key, v.StringV())
	case lineprotocol.Int:
		return wire.Field{Key: []byte(key), Kind: wire.Number, Value: fmt.Appendf(nil, "%d", v.IntV())}
	}
	return wire.NewNumber(key, v.FloatV())
}
