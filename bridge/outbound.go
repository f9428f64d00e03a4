package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// OutSource is the durable cursor of one connection's outgoing telemetry.
type OutSource interface {
	// Next returns the batch after the last, waiting for it. A batch that was not Done is returned again by the next
	// process.
	Next(ctx context.Context) (OutBatch, error)
}

// OutBatch is some stored points of several devices. Done moves the cursor past it.
type OutBatch struct {
	Points []OutPoint
	Done   func() error
}

// OutPoint is one stored point.
type OutPoint struct {
	Device string
	Point  wire.Point
}

// outPause is how long the publisher waits after an error of its cursor.
const outPause = time.Second

// outMap is where the points of which devices go.
type outMap struct {
	topic   string
	pattern pattern
	devices []string
	qos     byte
}

func newOutMap(cfg configs.OutMap) (*outMap, error) {
	var errs []error
	p, err := compilePattern(cfg.Topic, deviceLevel, measurementLevel)
	if err != nil {
		errs = append(errs, fmt.Errorf("topic: %w", err))
	} else if p.has(wildcard) || p.has(rest) {
		errs = append(errs, fmt.Errorf("topic: %s: + and # are for filters", cfg.Topic))
	}
	if cfg.QoS < 0 || cfg.QoS > 1 {
		errs = append(errs, fmt.Errorf("qos: %d; 0 and 1 are supported", cfg.QoS))
	}
	for _, d := range cfg.Devices {
		if _, err := path.Match(d, ""); err != nil {
			errs = append(errs, fmt.Errorf("devices: %q: %w", d, err))
		}
	}
	return &outMap{topic: cfg.Topic, pattern: p, devices: cfg.Devices, qos: byte(cfg.QoS)}, errors.Join(errs...)
}

// address returns the topic of a point, or false if it does not go there.
func (o *outMap) address(p OutPoint) (string, bool) {
	if len(o.devices) > 0 && !covers(o.devices, p.Device) {
		return "", false
	}
	return strings.NewReplacer("{device}", p.Device, "{measurement}", string(p.Point.Measurement)).Replace(o.topic), true
}

// outgoing is one message to publish.
type outgoing struct {
	topic   string
	qos     byte
	payload []byte
}

// publishOut publishes batch after batch until ctx is done. A batch is done when the broker has acknowledged all of
// it; until then its messages are published again, in order, over each new link. So they arrive at least once.
func (c *connection) publishOut(ctx context.Context) error {
	source := c.parts.Out(c.name)
	for ctx.Err() == nil {
		batch, err := source.Next(ctx)
		if err == nil {
			err = c.publishBatch(ctx, c.outgoing(batch))
			if err == nil {
				err = batch.Done()
			}
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		c.status.fail(fmt.Errorf("outgoing telemetry: %w", err))
		c.log.Warn("outgoing telemetry", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(outPause):
		}
	}
	return nil
}

func (c *connection) outgoing(batch OutBatch) []outgoing {
	var list []outgoing
	for _, p := range batch.Points {
		if d := c.directory.find(p.Device); d != nil && d.conn == c {
			continue // it came from this broker
		}
		var payload []byte
		for _, o := range c.outs {
			topic, ok := o.address(p)
			if !ok {
				continue
			}
			if payload == nil {
				payload = encodePoint(p.Point)
			}
			if err := CheckTopic(topic); err != nil || len(payload) > c.maxPayload {
				c.m.unpublished.Inc()
				continue
			}
			list = append(list, outgoing{topic: topic, qos: o.qos, payload: payload})
		}
	}
	return list
}

// publishBatch returns when all of list is acknowledged, or ctx is done.
func (c *connection) publishBatch(ctx context.Context, list []outgoing) error {
	for len(list) > 0 {
		l, err := c.awaitLink(ctx)
		if err != nil {
			return err
		}
		list = list[c.publishSome(ctx, l, list):]
	}
	return nil
}

// publishSome publishes over one link, as many at a time as the window holds, and returns how many of the first are
// acknowledged.
func (c *connection) publishSome(ctx context.Context, l *link, list []outgoing) int {
	acked := 0
	for acked < len(list) {
		n := min(cap(c.sends), len(list)-acked)
		tokens := make([]func() error, n)
		for i, m := range list[acked : acked+n] {
			if !l.isUp() {
				return acked
			}
			token := l.client.Publish(m.topic, m.qos, false, m.payload)
			tokens[i] = func() error { return l.await(ctx, token, pubackTimeout) }
		}
		for _, wait := range tokens {
			if wait() != nil {
				if ctx.Err() == nil {
					l.end(errLost) // paho's ids of what is not acknowledged go with the link
				}
				return acked
			}
			acked++
			c.m.published.Inc()
			c.status.published.Add(1)
		}
	}
	return acked
}

// linkCheck is how often the publisher looks for a new link.
const linkCheck = 100 * time.Millisecond

func (c *connection) awaitLink(ctx context.Context) (*link, error) {
	tick := time.NewTicker(linkCheck)
	defer tick.Stop()
	for {
		if l := c.current.Load(); l != nil && l.isUp() {
			return l, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// encodePoint writes a point as the device protocol does.
func encodePoint(p wire.Point) []byte {
	out := map[string]any{"measurement": string(p.Measurement)}
	if p.HasTime {
		if p.Time%int64(time.Millisecond) == 0 {
			out["time"] = p.Time / int64(time.Millisecond)
		} else {
			out["time"] = time.Unix(0, p.Time).UTC().Format(time.RFC3339Nano)
		}
	}
	if len(p.Tags) > 0 {
		tags := make(map[string]string, len(p.Tags))
		for _, t := range p.Tags {
			tags[string(t.Key)] = string(t.Value)
		}
		out["tags"] = tags
	}
	fields := make(map[string]any, len(p.Fields))
	for _, f := range p.Fields {
		switch f.Kind {
		case wire.Number:
			fields[string(f.Key)] = json.Number(f.Value)
		case wire.Bool:
			fields[string(f.Key)] = string(f.Value) == "true"
		default:
			fields[string(f.Key)] = string(f.Value)
		}
	}
	out["fields"] = fields
	b, err := json.Marshal(out)
	if err != nil {
		return nil // a number that is not JSON; ingest has checked them
	}
	return b
}
