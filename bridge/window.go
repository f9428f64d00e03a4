package bridge

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// delivery is one message from the broker until everything that it means is stored.
type delivery struct {
	// static after take
	msg      message
	link     *link
	received time.Time
	sum      uint64
	window   *window

	open   atomic.Int32 // what still holds it: the worker, frames on their way, answers being recorded
	failed atomic.Bool  // it must not be acknowledged
	again  *delivery    // guarded by window.mu: the broker's repetition of it
}

func (d *delivery) hold() { d.open.Add(1) }

func (d *delivery) release() {
	if d.open.Add(-1) > 0 {
		return
	}
	d.window.mu.Lock()
	again := d.again
	d.window.mu.Unlock()
	if again != nil {
		again.failed.Store(d.failed.Load())
		again.release()
	}
	d.window.poke()
}

// window holds the messages that are not finished, in the order in which they came, because that is the order in which
// they must be acknowledged [MQTT-4.6.0-2]. It is what bounds the bridge's memory.
type window struct {
	size  int
	slots chan struct{} // one for each message held
	done  chan struct{} // capacity 1: some message may be finished

	mu      sync.Mutex
	list    []*delivery          // guarded by mu, oldest first
	recent  []*delivery          // guarded by mu: acknowledged in this connection, at most size
	earlier map[uint16]*delivery // guarded by mu: of the connection before, what the broker may repeat
	seed    maphash.Seed
}

func newWindow(size int) *window {
	return &window{
		size: size, slots: make(chan struct{}, size), done: make(chan struct{}, 1),
		earlier: make(map[uint16]*delivery), seed: maphash.MakeSeed(),
	}
}

// poke wakes the acknowledger. It never blocks.
func (w *window) poke() {
	select {
	case w.done <- struct{}{}:
	default:
	}
}

// reserve waits for room until timeout or the end of l.
func (w *window) reserve(l *link, timeout time.Duration) bool {
	select {
	case w.slots <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case w.slots <- struct{}{}:
		return true
	case <-l.over:
		return false
	case <-timer.C:
		return false
	}
}

// take puts a message into the room that reserve got. If the broker repeats what is already on its way, or already
// stored, it returns false: the message must not be stored again.
func (w *window) take(l *link, msg message) (*delivery, bool) {
	d := &delivery{msg: msg, link: l, received: time.Now(), window: w}
	var h maphash.Hash
	h.SetSeed(w.seed)
	_, _ = h.WriteString(msg.Topic())
	_ = h.WriteByte(0)
	_, _ = h.Write(msg.Payload())
	d.sum = h.Sum64()
	d.open.Store(1)

	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, d)
	if !msg.Duplicate() || msg.Qos() == 0 {
		return d, true
	}
	old := w.earlier[msg.MessageID()]
	if old == nil || old.sum != d.sum {
		return d, true
	}
	delete(w.earlier, msg.MessageID())
	if old.open.Load() == 0 {
		if old.failed.Load() {
			return d, true
		}
		d.open.Store(0)
		w.poke()
		return d, false
	}
	old.again = d
	return d, false
}

// next takes the oldest message out if it is finished.
func (w *window) next() *delivery {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.list) == 0 || w.list[0].open.Load() > 0 {
		return nil
	}
	d := w.list[0]
	w.list[0] = nil
	w.list = w.list[1:]
	if d.msg.Qos() > 0 && !d.failed.Load() {
		if len(w.recent) == w.size {
			w.recent = w.recent[1:]
		}
		w.recent = append(w.recent, d)
	}
	<-w.slots
	return d
}

// acknowledge sends the acknowledgements, in order, until ctx is done.
func (w *window) acknowledge(ctx context.Context, acked func(*delivery)) {
	for {
		for d := w.next(); d != nil; d = w.next() {
			if !d.failed.Load() && d.link.isUp() {
				d.msg.Ack()
			}
			acked(d)
		}
		select {
		case <-ctx.Done():
			return
		case <-w.done:
		}
	}
}

// ended is called when a connection is over: what was not acknowledged, and what was but perhaps did not arrive, will
// be repeated by the broker under the same packet id.
func (w *window) ended() {
	w.mu.Lock()
	defer w.mu.Unlock()
	// What was acknowledged over links before this one would have been repeated by now; a broker may give their packet ids to
	// other messages, and one that says the same is not the same. Rather store one twice than acknowledge one that is not stored.
	clear(w.earlier)
	for _, list := range [][]*delivery{w.recent, w.list} {
		for _, d := range list {
			if d.msg.Qos() > 0 {
				w.earlier[d.msg.MessageID()] = d
			}
		}
	}
	w.recent = nil
}

func (w *window) empty() bool { return len(w.slots) == 0 }
