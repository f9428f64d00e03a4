package commands

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

// Open returns how many commands are in memory as open, and how many pipes there are.
func (r *Router) Open() (commands, pipes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ledger.open), len(r.pipes)
}

// Floor returns the durable floor, stored twice so that it is as young as it gets.
func (r *Router) Floor(store func(error)) uint64 {
	store(r.storeFloor(r.ctx))
	store(r.storeFloor(r.ctx))
	return r.ledger.stored
}

// ForgetRecent drops the commands that ended lately from memory, as many later ones would.
func (r *Router) ForgetRecent() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.ledger.ended.Len() > 0 {
		t := r.ledger.ended.Remove(r.ledger.ended.Front()).(*tracked)
		delete(r.ledger.recent, t.id)
	}
	r.ledger.recentBytes = 0
}

// Entry, Order and the rest open the fold to its tests.
type (
	Entry  = entry
	Order  = order
	Answer = answer
	Kind   = kind
	Folded = command
)

// The kinds, for histories.
var Kinds = []Kind{sending, unsent, sent, accept, progress, result, expired, timedOut, cancel, approve}

// Begin and Apply are the fold.
func Begin(device string, seq uint64, e *Entry) *Folded { return begin(device, seq, e) }

// Apply folds one entry.
func (c *command) Apply(e *Entry) bool { return c.apply(e) }

// View is what operators see.
func (c *command) View() Command { return c.view(true) }

// Grant is who may write it.
func (c *command) Grant() string { return c.grant }

// Revision counts what was applied.
func (c *command) Revision() int { return c.rev }

// WireID and SplitTry are the ids of tries.
func WireID(id string, try int) string { return wireID(id, try) }

// SplitTry undoes WireID.
func SplitTry(s string) (string, int) { return splitTry(s) }

// Try counts the tries that ended before the present one.
func (c *command) Try() int { return c.try }

// ParseID and FormatID are the id codec.
func ParseID(id string) (uint64, string, bool) { return parseID(id) }

// FormatID makes an id.
func FormatID(seq uint64, suffix string) string { return formatID(seq, suffix) }

// CheckParams validates params against a schema with a fresh cache.
func (r *Router) CheckParams(schema, params string) error {
	return r.schemas.check(json.RawMessage(schema), json.RawMessage(params))
}

// Trim makes room if the log is nearly full.
func (r *Router) Trim(ctx context.Context) error {
	_, err := r.history.trim(ctx, r.pinned())
	return err
}

// Record publishes one event as the group commit does, and returns its place or why it has none.
func Record(ctx context.Context, js jetstream.JetStream, device string) (uint64, error) {
	nothing := func([]*outgoing) {}
	k := newCommitter(js, nil, "n1/run", newMetrics(prometheus.NewRegistry(), func() float64 { return 0 }), nothing, nothing)
	o := &outgoing{device: device, msg: message{From: k.from, N: 1, Events: []entry{{Kind: cancel}}}}
	k.publish(ctx, []*outgoing{o})
	return o.seq, o.err
}

// RecordAll publishes one event of each device as one commit does, with details of so many bytes, and returns why those
// that have no place in the log have none.
func RecordAll(ctx context.Context, js jetstream.JetStream, details []int) []error {
	nothing := func([]*outgoing) {}
	k := newCommitter(js, nil, "n1/run", newMetrics(prometheus.NewRegistry(), func() float64 { return 0 }), nothing, nothing)
	var out []*outgoing
	for i, n := range details {
		e := entry{Kind: cancel, Detail: strings.Repeat("x", n)}
		out = append(out, &outgoing{device: fmt.Sprintf("d%d", i), msg: message{From: k.from, N: uint64(i + 1), Events: []entry{e}}})
	}
	k.publish(ctx, out)
	var errs []error
	for _, o := range out {
		errs = append(errs, o.err)
	}
	return errs
}

// Waiting is an event that waits for a commit.
type Waiting struct {
	Device  string
	Urgent  bool
	Overdue bool
	Bytes   int    // of its detail
	Of      string // what the detail is made of; "x" if empty
}

// Gather returns the messages of the next commit and what stays, by the places of the events in waiting.
func Gather(waiting []Waiting, all bool) (messages [][]int, left []int) {
	var k committer
	for _, w := range waiting {
		p := &proposal{device: w.Device, urgent: w.Urgent, due: time.Now().Add(time.Hour), entry: entry{Detail: strings.Repeat(cmp.Or(w.Of, "x"), w.Bytes)}}
		if w.Overdue {
			p.due = time.Now().Add(-time.Hour)
		}
		k.pending = append(k.pending, p)
	}
	at := slices.Clone(k.pending)
	for _, o := range k.next(all) {
		var m []int
		for _, p := range o.props {
			m = append(m, slices.Index(at, p))
		}
		messages = append(messages, m)
	}
	for _, p := range k.pending {
		left = append(left, slices.Index(at, p))
	}
	return messages, left
}
