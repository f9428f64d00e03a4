package ingest

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// deal hands a batch to its lanes. It blocks while too much is in memory.
func (w *Writer) deal(ctx context.Context, msg jetstream.Msg, seq uint64) error {
	oldest, lanes, err := readBatch(msg.Data())
	if err != nil {
		// It will not become readable; keep it where an operator finds it.
		w.slog.Error("unreadable batch set aside", "stream_seq", seq, "err", err)
		w.metrics.unreadable.Inc()
		if err := w.dead.keepBatch(ctx, seq, msg.Data(), err); err != nil {
			return err
		}
		w.mu.Lock()
		w.dealt = seq
		w.mu.Unlock()
		w.wrote.Store(true)
		return nil
	}
	p := &pending{size: len(msg.Data()), oldest: oldest, seq: seq}
	w.hold(p)
	for _, l := range lanes {
		if l.lines > 0 {
			p.left.Add(1)
		}
	}
	if p.left.Load() == 0 {
		w.done(p)
		return nil
	}
	for i, l := range lanes {
		if l.lines == 0 {
			continue
		}
		select {
		case w.lanes[i%Lanes] <- piece{l, p}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// hold waits for room and takes note of p.
func (w *Writer) hold(p *pending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.held > 0 && (w.held+p.size > heldBytes || len(w.batches) >= maxUnwritten) && !w.stopped {
		w.freed.Wait()
	}
	w.held += p.size
	w.batches[p.seq] = p
	w.dealt = p.seq
}

// done lets go of a batch whose lanes are all written.
func (w *Writer) done(p *pending) {
	w.mu.Lock()
	w.held -= p.size
	delete(w.batches, p.seq)
	w.freed.Signal()
	w.mu.Unlock()
	w.wrote.Store(true)
}

// writeLane writes one lane's pieces in order, joined to what InfluxDB likes best.
func (w *Writer) writeLane(ctx context.Context, queue <-chan piece) error {
	var body []byte
	var joined []piece
	for {
		select {
		case p := <-queue:
			joined = append(joined[:0], p)
		case <-ctx.Done():
			return ctx.Err()
		}
		joined = w.gather(ctx, queue, joined)
		body = body[:0]
		for _, p := range joined {
			body = append(body, p.data...)
		}
		if err := w.write(ctx, body); err != nil {
			return err
		}
		for i, p := range joined {
			if p.of.left.Add(-1) == 0 {
				w.done(p.of)
			}
			joined[i] = piece{}
		}
		if cap(body) > 2*writeBytes {
			body = nil
		}
	}
}

// gather adds what is waiting, and waits a little for more when there is little.
func (w *Writer) gather(ctx context.Context, queue <-chan piece, joined []piece) []piece {
	lines, bytes := joined[0].lines, len(joined[0].data)
	timer := time.NewTimer(linger)
	defer timer.Stop()
	for lines < w.lineLimit && bytes < writeBytes {
		select {
		case p := <-queue:
			joined = append(joined, p)
			lines += p.lines
			bytes += len(p.data)
		case <-timer.C:
			return joined
		case <-ctx.Done():
			return joined
		}
	}
	return joined
}
