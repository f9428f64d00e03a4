package devices

import (
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// errEnded says that a session takes no more frames.
var errEnded = errors.New("session has ended")

const (
	outboxBuffer = 1 << 10
	keptOutbox   = 64 << 10
)

// outboxes are the buffers of sessions that have something to write.
var outboxes = sync.Pool{New: func() any {
	b := make([]byte, 0, outboxBuffer)
	return &b
}}

// outbox is what a session has to write: one run of finished WebSocket frames, and apart from it the acknowledgement
// of telemetry, of which only the newest counts. An idle session's is empty and holds no memory.
type outbox struct {
	frames   *[]byte      // from outboxes; nil: none
	waiting  []chan error // told when frames are written
	ack      uint64       // to be sent, after frames; 0: none
	draining bool         // a drainer is at work
	last     bool         // the close frame is among frames: nothing comes after it
	ended    bool         // takes no more
	idle     chan struct{}
}

// appendFrame appends one unfragmented, unmasked frame [RFC6455 5.2]. The outbox frames for itself since the library
// would make one system call of each.
func appendFrame(dst []byte, opcode byte, payload []byte) []byte {
	dst = append(dst, finBit|opcode)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, byte(n))
	case n <= 0xffff:
		dst = binary.BigEndian.AppendUint16(append(dst, 126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 127), uint64(n))
	}
	return append(dst, payload...)
}

func (s *Session) opcode() byte {
	if s.codec.Binary() {
		return websocket.BinaryMessage
	}
	return websocket.TextMessage
}

// send queues a frame. It never blocks: a device that does not read what is queued for it is disconnected. A written
// channel, which must have room, is told how writing went.
func (s *Session) send(frame any, written chan error) error {
	payload, err := wire.Append(nil, s.codec, frame)
	if err != nil {
		return err
	}
	return s.queue(s.opcode(), payload, written)
}

func (s *Session) queue(opcode byte, payload []byte, written chan error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.queueLocked(opcode, payload) {
		return errEnded
	}
	if written != nil {
		s.out.waiting = append(s.out.waiting, written)
	}
	return nil
}

func (s *Session) queueLocked(opcode byte, payload []byte) bool {
	if s.out.ended || s.out.last {
		s.traceOut(payload, fateDropped)
		return false
	}
	if s.out.size()+len(payload) > s.host.cfg.QueueBytes {
		s.traceOut(payload, fateDropped)
		s.endLocked(endSlow)
		return false
	}
	s.out.append(opcode, payload)
	s.traceOut(payload, fateSent)
	s.drainLocked()
	return true
}

func (o *outbox) size() int {
	if o.frames == nil {
		return 0
	}
	return len(*o.frames)
}

func (o *outbox) append(opcode byte, payload []byte) {
	if o.frames == nil {
		o.frames = outboxes.Get().(*[]byte)
	}
	*o.frames = appendFrame(*o.frames, opcode, payload)
}

// drainLocked sees to it that a drainer is at work.
func (s *Session) drainLocked() {
	if !s.out.draining && !s.out.ended {
		s.out.draining = true
		go s.drain()
	}
}

// drain writes what is queued, all of it in one call, until nothing is left. At most one drain runs; the session's end
// waits for it.
func (s *Session) drain() {
	for {
		frames, waiting, last := s.nextWrite()
		if frames == nil {
			return
		}
		err := s.write(*frames)
		release(frames)
		for _, w := range waiting {
			w <- err
		}
		if err != nil {
			s.lost(err)
		} else if last {
			s.closeSent()
		}
	}
}

// nextWrite takes what is to be written next, or ends the drainer.
func (s *Session) nextWrite() (frames *[]byte, waiting []chan error, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.out
	if o.ack != 0 && !o.last && !o.ended {
		var room [64]byte
		ack := wire.AppendAck(room[:0], s.codec, o.ack)
		o.append(s.opcode(), ack)
		if s.trace.Load() != nil {
			s.traceOut(append([]byte(nil), ack...), fateSent) // ack itself stays on the stack
		}
		s.host.metrics.acks.Inc()
	}
	o.ack = 0
	if o.frames == nil || o.ended {
		o.draining = false
		o.discard()
		if o.idle != nil {
			close(o.idle)
			o.idle = nil
		}
		return nil, nil, false
	}
	frames, waiting, last = o.frames, o.waiting, o.last
	o.frames, o.waiting = nil, nil
	return frames, waiting, last
}

// discard drops what can no longer be written. Called with mu held.
func (o *outbox) discard() {
	if o.frames != nil {
		release(o.frames)
		o.frames = nil
	}
	for _, w := range o.waiting {
		w <- errEnded
	}
	o.waiting = nil
}

func release(frames *[]byte) {
	if cap(*frames) > keptOutbox {
		return
	}
	*frames = (*frames)[:0]
	outboxes.Put(frames)
}

// write writes to the connection itself: its own lock keeps writes whole.
func (s *Session) write(b []byte) error {
	conn := s.sock.Conn
	if err := conn.SetWriteDeadline(time.Now().Add(s.host.cfg.WriteTimeout)); err != nil {
		return err
	}
	_, err := conn.Write(b)
	return err
}

// Stored hears from the log that telemetry up to seq is stored, and acknowledges it. It never blocks.
func (s *Session) Stored(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(s.pending) && s.pending[n] <= seq {
		n++
	}
	if s.awaited != nil {
		s.traceStoredLocked(seq, fateStored)
	}
	s.pending = append(s.pending[:0], s.pending[n:]...)
	if len(s.pending) == 0 && cap(s.pending) > keptPending {
		s.pending = nil
	}
	s.roomLocked()
	if seq > s.out.ack {
		s.out.ack = seq
	}
	s.drainLocked()
}

// keptPending is how many unacknowledged frames an idle session keeps room for.
const keptPending = 4
