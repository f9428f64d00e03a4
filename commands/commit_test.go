package commands_test

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// scriptedLog answers publishes one after the other; after the last answer the test is over.
type scriptedLog struct {
	jetstream.JetStream
	answers []any // error or place
	over    context.CancelFunc
}

func (s *scriptedLog) PublishMsgAsync(*nats.Msg, ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	f := future{ok: make(chan *jetstream.PubAck, 1), err: make(chan error, 1)}
	if len(s.answers) == 0 {
		s.over()
		return f, nil
	}
	switch a := s.answers[0].(type) {
	case error:
		f.err <- a
	case int:
		f.ok <- &jetstream.PubAck{Sequence: uint64(a)}
	}
	s.answers = s.answers[1:]
	return f, nil
}

type future struct {
	jetstream.PubAckFuture
	ok  chan *jetstream.PubAck
	err chan error
}

func (f future) Ok() <-chan *jetstream.PubAck { return f.ok }
func (f future) Err() <-chan error            { return f.err }

// Once an answer of the log was lost, no later refusal proves that nothing was recorded, but that it is too large: then it
// was so before.
func TestLostAnswerOfTheLog(t *testing.T) {
	full := &jetstream.APIError{Code: 400, ErrorCode: 10077, Description: "maximum bytes exceeded"}
	leader := &jetstream.APIError{Code: 503, ErrorCode: 10008, Description: "system temporarily unavailable"}
	tooLarge := &jetstream.APIError{Code: 400, ErrorCode: 10054, Description: "message size exceeds maximum allowed"}
	for _, tc := range []struct {
		name    string
		answers []any
		seq     uint64
		err     error
	}{
		{"no room", []any{full}, 0, commands.ErrLogFull},
		{"lost, then no room, then there", []any{nats.ErrTimeout, full, 7}, 7, nil},
		{"the leader changes, then no room, then there", []any{leader, full, full, 7}, 7, nil},
		{"lost until the end", []any{nats.ErrTimeout}, 0, commands.ErrUnclear},
		{"lost, then no room until the end", []any{nats.ErrTimeout, full}, 0, commands.ErrUnclear},
		{"lost, then too large", []any{nats.ErrTimeout, tooLarge}, 0, commands.ErrTooLarge},
		{"lost, then more than the server takes", []any{nats.ErrTimeout, nats.ErrMaxPayload}, 0, commands.ErrTooLarge},
	} {
		ctx, over := context.WithCancel(t.Context())
		seq, err := commands.Record(ctx, &scriptedLog{answers: tc.answers, over: over}, "d")
		over()
		if seq != tc.seq || !errors.Is(err, tc.err) {
			t.Errorf("%s: place %d, %v; want %d, %v", tc.name, seq, err, tc.seq, tc.err)
		}
	}
}

// One message that the log never takes must not keep the others of its commit from it, nor itself be tried without end.
func TestTooLargeForTheLog(t *testing.T) {
	b := openBus(t, t.TempDir())
	defer b.Close()
	for _, large := range []int{bus.MaxCommandMessage, 600 << 10, 2 << 20} { // refused here, by the server, by the client
		details := make([]int, 20) // more than are published one by one
		details[7] = large
		for i, err := range commands.RecordAll(within(t), b.JetStream(), details) {
			if i == 7 && !errors.Is(err, commands.ErrTooLarge) || i != 7 && err != nil {
				t.Errorf("%d bytes in message 7: message %d: %v", large, i, err)
			}
		}
	}
}
