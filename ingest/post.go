package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// The bounds of dead letters that are on their way at once. All lanes together must stay below what nats.go lets be
// unacked, which is 4000.
const (
	postLetters = 256
	postBytes   = 1 << 20
)

// post is dead letters that go together: one that waits for the ack of the one before it takes a sync and a way there and
// back each.
type post struct {
	letters []envelope
	bytes   int
}

type envelope struct {
	subject string
	body    []byte
}

func (p *post) add(l Deadletter) error {
	l.Time = time.Now().UnixMilli()
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // nobody reads it in a page
	if err := enc.Encode(l); err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	subject, err := bus.DeadletterSubject(l.Device)
	if err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	p.letters = append(p.letters, envelope{subject, body.Bytes()})
	p.bytes += body.Len()
	return nil
}

func (p *post) full() bool { return len(p.letters) >= postLetters || p.bytes >= postBytes }

// flush stores what is in p and empties it. It fails only when ctx ends.
func (d *Deadletters) flush(ctx context.Context, p *post) error {
	defer func() { clear(p.letters); p.letters, p.bytes = p.letters[:0], 0 }()
	if len(p.letters) > 1 && d.together(ctx, p.letters) == nil {
		return nil
	}
	// One by one, and all of them: what failed may have been any, and the last copies stand in order. It needs nothing of
	// what the first attempt left unacked.
	for _, l := range p.letters {
		if err := d.publish(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// together publishes letters at once and waits for all their acks.
func (d *Deadletters) together(ctx context.Context, letters []envelope) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	acks := make([]jetstream.PubAckFuture, 0, len(letters))
	for _, l := range letters {
		ack, err := d.js.PublishAsync(l.subject, l.body)
		if err != nil {
			return err
		}
		acks = append(acks, ack)
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// publish stores one letter, however often it takes.
func (d *Deadletters) publish(ctx context.Context, l envelope) error {
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		if _, err := d.js.Publish(ctx, l.subject, l.body); err == nil {
			return nil
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
}
