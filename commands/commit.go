package commands

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// proposal is an entry on its way into the log. done is called once, never with a lock held and never blocking: with
// the command and whether the entry had an effect, or with why it was not recorded.
type proposal struct {
	device string
	entry  entry
	done   func(t *tracked, effective bool, err error)

	urgent bool      // somebody waits for it
	due    time.Time // else when it waits no longer for company
}

// outgoing is a message on its way into the log.
type outgoing struct {
	device string
	msg    message
	props  []*proposal
	size   int

	seq     uint64 // once it is there
	err     error  // once it was refused
	unclear bool   // an answer of the server was lost: it may be there already
}

// committer is the group commit: while one commit is being synced, the next fills. One commit is in flight at a time,
// so the log has the events of a device in the order in which they were proposed.
type committer struct {
	// static after newCommitter
	js      jetstream.JetStream
	nc      *nats.Conn
	from    string // names this run of this node in the log
	begin   func(out []*outgoing)
	end     func(out []*outgoing)
	metrics *metrics
	wake    chan struct{} // something waits, or somebody waits for it

	// guarded by mu
	mu      sync.Mutex
	pending []*proposal
	urgent  bool // one of pending is
	closed  bool

	// owned by Run
	n    uint64
	done chan []*outgoing // published, for end
	left atomic.Int32     // of them
}

// newCommitter returns a committer that calls begin before messages are published and end, in order, once each has
// its place or its refusal.
func newCommitter(js jetstream.JetStream, nc *nats.Conn, from string, m *metrics, begin, end func([]*outgoing)) *committer {
	return &committer{
		js: js, nc: nc, from: from, metrics: m, begin: begin, end: end,
		wake: make(chan struct{}, 1), done: make(chan []*outgoing, 1),
	}
}

// propose adds p to the next commit. Urgent ones start it; others wait a little for one that takes them along. It never
// blocks.
func (k *committer) propose(p *proposal, urgent bool) error {
	if p.urgent = urgent; !urgent {
		p.due = time.Now().Add(lazyDelay)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.closed:
		return ErrClosed
	case len(k.pending) >= maxPending:
		return ErrOverloaded
	}
	k.pending = append(k.pending, p)
	if len(k.pending) == 1 || urgent && !k.urgent {
		signal(k.wake)
	}
	k.urgent = k.urgent || urgent
	return nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run commits until ctx ends; then it takes no more and commits what it has. abort ends also that.
func (k *committer) Run(ctx, abort context.Context) {
	var ending sync.WaitGroup
	ending.Go(func() {
		for out := range k.done {
			k.end(out)
			k.left.Add(-1)
		}
	})
	defer ending.Wait()
	defer close(k.done)
	for k.await(ctx) {
		k.commit(abort, false)
	}
	k.close()
	for k.commit(abort, true) {
	}
}

// await waits until something shall be committed, and reports false if ctx ends before.
func (k *committer) await(ctx context.Context) bool {
	for ctx.Err() == nil {
		var due <-chan time.Time
		k.mu.Lock()
		if len(k.pending) > 0 {
			wait := time.Until(k.pending[0].due)
			if k.urgent || wait <= 0 {
				k.mu.Unlock()
				return true
			}
			due = time.After(wait)
		}
		k.mu.Unlock()
		select {
		case <-k.wake:
		case <-due:
		case <-ctx.Done():
		}
	}
	return false
}

func (k *committer) close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
}

// commit publishes one group, of all that waits or of what is due, and reports whether there was any.
func (k *committer) commit(ctx context.Context, all bool) bool {
	out := k.next(all)
	if len(out) == 0 {
		return false
	}
	start := time.Now()
	events := 0
	for _, o := range out {
		events += len(o.props)
	}
	k.begin(out)
	k.publish(ctx, out)
	k.metrics.commitSeconds.Observe(time.Since(start).Seconds())
	k.metrics.commitEvents.Observe(float64(events))
	// What follows from a large commit takes about as long as its publishing, so the next one need not wait for it.
	if len(out) <= singles && k.left.Load() == 0 {
		k.end(out)
		return true
	}
	k.left.Add(1)
	k.done <- out
	return true
}

// next takes what is due, up to the size of one commit, and packs it: one message holds the events of one device. What
// else waits for a device that has something due goes along, so that most commands cost two messages: one that creates
// them, and one that says sent and how they ended.
func (k *committer) next(all bool) (out []*outgoing) {
	k.mu.Lock()
	ripe := k.ripeLocked(all)
	var rest []*proposal
	bytes, full := 0, false
	last := make(map[string]*outgoing, min(len(k.pending), batchMessages))
	k.urgent = false
	for _, p := range k.pending {
		o, size := last[p.device], p.entry.size()
		fits := o == nil && len(out) < batchMessages || o != nil && o.size+size <= messageBytes
		// Once one had to stay all that follow do: the order is kept.
		full = full || len(out) > 0 && (bytes+size > batchBytes || !fits)
		if full || !ripe(p) {
			rest, k.urgent = append(rest, p), k.urgent || p.urgent
			continue
		}
		if o == nil {
			o = &outgoing{device: p.device}
			last[p.device], out = o, append(out, o)
		}
		o.props, o.size = append(o.props, p), o.size+size
		bytes += size
	}
	k.pending = rest
	k.mu.Unlock()
	for _, o := range out {
		k.n++
		o.msg = message{From: k.from, N: k.n, Events: make([]entry, len(o.props))}
		for i, p := range o.props {
			o.msg.Events[i] = p.entry
		}
	}
	return out
}

// ripeLocked tells what of pending goes into the next commit: all of every device that has something urgent or overdue.
func (k *committer) ripeLocked(all bool) func(*proposal) bool {
	now := time.Now()
	hot, waits := make(map[string]bool), false
	for _, p := range k.pending {
		if p.urgent || !now.Before(p.due) {
			hot[p.device] = true
		} else {
			waits = true
		}
	}
	if all || !waits {
		return func(*proposal) bool { return true }
	}
	return func(p *proposal) bool { return hot[p.device] }
}

// publish gives every message its place or its refusal. What became unclear, because an answer of the server was
// lost, is published again until it is clear: the log's readers count a message once. A refusal does not make it clear.
func (k *committer) publish(ctx context.Context, out []*outgoing) {
	todo := make([]*nats.Msg, 0, len(out))
	left := make([]*outgoing, 0, len(out))
	for _, o := range out {
		m, err := encode(o)
		if err != nil {
			o.err = err
			continue
		}
		todo, left = append(todo, m), append(left, o)
	}
	backoff := minBackoff
	for tries := 0; len(left) > 0; tries++ {
		if len(left) > singles && tries == 0 {
			k.batch(ctx, todo, left)
		} else {
			k.single(ctx, todo, left)
		}
		n := 0
		for i, o := range left {
			if o.seq == 0 && o.err == nil {
				o.unclear = true
				left[n], todo[n] = o, clean(todo[i])
				n++
			}
		}
		if left, todo = left[:n], todo[:n]; n == 0 {
			return
		}
		k.metrics.commitRetries.Inc()
		select {
		case <-time.After(backoff):
			backoff = min(2*backoff, maxBackoff)
		case <-ctx.Done():
			for _, o := range left {
				o.err = fmt.Errorf("%w: the log did not answer", ErrUnclear)
			}
			return
		}
	}
}

func encode(o *outgoing) (*nats.Msg, error) {
	subject, err := bus.CommandSubject(o.device)
	if err != nil {
		return nil, err
	}
	data, err := o.msg.encode()
	if err != nil {
		return nil, err
	}
	if len(data) > bus.MaxCommandMessage { // the server would refuse the whole batch for it
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(data))
	}
	return &nats.Msg{Subject: subject, Data: data, Header: nats.Header{}}, nil
}

// clean is m without what a failed attempt left on it.
func clean(m *nats.Msg) *nats.Msg {
	return &nats.Msg{Subject: m.Subject, Data: m.Data, Header: nats.Header{}}
}

// batch publishes all in one atomic batch, which is synced once. A message without place or refusal afterwards is
// unclear; so is a batch that the server refuses for another reason than room, for one of its messages may be at fault.
func (k *committer) batch(ctx context.Context, msgs []*nats.Msg, out []*outgoing) {
	ack, err := jetstreamext.PublishMsgBatch(ctx, k.js, msgs, jetstreamext.BatchFlowControl{})
	for i, o := range out {
		switch {
		case err == nil:
			o.seq = ack.Sequence - uint64(len(out)-1-i)
		case bus.IsFull(err):
			o.refused(err)
		}
	}
}

// single publishes one after another without waiting in between; each is synced by itself.
func (k *committer) single(ctx context.Context, msgs []*nats.Msg, out []*outgoing) {
	acks := make([]jetstream.PubAckFuture, len(msgs))
	for i, m := range msgs {
		ack, err := k.js.PublishMsgAsync(m)
		if err != nil {
			out[i].refused(err)
			continue
		}
		acks[i] = ack
	}
	for i, ack := range acks {
		if ack == nil {
			continue
		}
		select {
		case ok := <-ack.Ok():
			out[i].seq = ok.Sequence
		case err := <-ack.Err():
			out[i].refused(err)
		case <-ctx.Done():
			return
		}
	}
}

// refused notes why o is not in the log, if that is certain. What is too large was so at each attempt before.
func (o *outgoing) refused(err error) {
	if !o.unclear || bus.IsTooLarge(err) {
		o.err = refusal(err)
	}
}

// refusal returns the error of a publish that certainly stored nothing, or nil if that is not certain.
func refusal(err error) error {
	if bus.IsTooLarge(err) {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return nil
	}
	if bus.IsFull(err) {
		return fmt.Errorf("%w: %w", ErrLogFull, err)
	}
	if api.Code >= 500 { // a leader changes, a server starts
		return nil
	}
	return fmt.Errorf("record command: %w", err)
}
