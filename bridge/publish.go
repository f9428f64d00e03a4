package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// pubackTimeout is how long the broker may take to acknowledge a publish.
const pubackTimeout = 20 * time.Second

// errPayload refuses what the broker could not take.
var errPayload = errors.New("payload is too large")

// errUnsent says that nothing was written. After any other error the message may have left.
var errUnsent = errors.New("not sent")

// publish sends one message, never retained, and returns when the broker has acknowledged it, at QoS 0 when it is
// written. It takes part in the connection's window of unacknowledged publishes and so may wait for others.
func (c *connection) publish(ctx context.Context, l *link, topic string, qos byte, payload []byte) error {
	if err := CheckTopic(topic); err != nil {
		return fmt.Errorf("%w: %w", errUnsent, err)
	}
	if err := c.checkReadBack(topic); err != nil {
		return fmt.Errorf("%w: %w", errUnsent, err)
	}
	if len(payload) > c.maxPayload {
		return fmt.Errorf("%w: %w: %d bytes, at most %d", errUnsent, errPayload, len(payload), c.maxPayload)
	}
	select {
	case c.sends <- struct{}{}:
	case <-l.over:
		return fmt.Errorf("%w: %w", errUnsent, l.cause)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errUnsent, ctx.Err())
	}
	defer func() { <-c.sends }()
	if !l.isUp() {
		return fmt.Errorf("%w: %w", errUnsent, errLost)
	}
	if err := l.await(ctx, l.client.Publish(topic, qos, false, payload), pubackTimeout); err != nil {
		return fmt.Errorf("publish to %.80s: %w", topic, err)
	}
	c.m.published.Inc()
	c.status.published.Add(1)
	return nil
}
