package ingest

import (
	"sync"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// rendering is what a frame needs on its way into the open batch.
type rendering struct {
	buf   []byte
	slots []*slot
	tags  []wire.Tag
}

// What a source keeps from one frame to the next. The lines of a block are many times as long as the block, and a device
// that has sent one would hold their room for as long as its session: so more is lent, to one frame after the other.
const (
	keptLines = 4 << 10 // bytes
	keptSlots = 512
)

var renderings = sync.Pool{New: func() any { return new(rendering) }}

// borrow sees that there is a rendering; one that is long where the frame before was.
func (s *Source) borrow() {
	switch {
	case s.rendering != nil:
	case s.long:
		s.rendering = renderings.Get().(*rendering)
	default:
		s.rendering = new(rendering)
	}
}

// giveBack ends the loan of a long one.
func (s *Source) giveBack() {
	r := s.rendering
	s.long = len(r.buf) > keptLines || len(r.slots) > keptSlots
	if cap(r.buf) <= keptLines && cap(r.slots) <= keptSlots {
		return
	}
	clear(r.slots[:cap(r.slots)]) // they are the device's, and the tags the frame's
	clear(r.tags[:cap(r.tags)])
	s.rendering = nil
	renderings.Put(r)
}
