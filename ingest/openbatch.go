package ingest

import "github.com/nats-io/nats.go/jetstream"

// batch is an open or sealed batch.
type batch struct {
	id     uint64
	lanes  [Lanes]lane
	bytes  int
	oldest int64
	notes  []note
	msg    []byte
	future jetstream.PubAckFuture
	err    error
}

// note says up to where a source is stored when the batch is.
type note struct {
	src    *Source
	seq    uint64
	waiter Waiter // of src, while the batch settles
}

func (b *batch) lines() (n int) {
	for i := range b.lanes {
		n += b.lanes[i].lines
	}
	return n
}

// keepLane is the most room that a reused batch keeps per lane.
const keepLane = 512 << 10

func (b *batch) reset() {
	for i := range b.lanes {
		b.lanes[i].lines = 0
		if cap(b.lanes[i].data) > keepLane {
			b.lanes[i].data = nil
		}
		b.lanes[i].data = b.lanes[i].data[:0]
	}
	clear(b.notes)
	b.notes = b.notes[:0]
	b.bytes, b.future, b.err = 0, nil, nil
}
