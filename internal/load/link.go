package load

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// link is one device's connection. It frames for itself: a library would cost the loader more than the hub spends.
type link struct {
	conn   net.Conn
	rest   []byte // read behind the answer to the handshake
	frames *frames
	from   uint64 // frames acknowledged in an earlier connection

	sent  atomic.Uint64 // frames
	acked atomic.Uint64
	gone  atomic.Bool
	at    [MaxWindow]atomic.Int64 // when frame n was sent, or ought to have been; at n modulo MaxWindow

	latency [MaxPhases]histogram // owned by serve
}

func newLink(conn net.Conn, rest []byte, f *frames) *link {
	return &link{conn: conn, rest: rest, frames: f}
}

// send writes the next n frames in one piece. due is when they ought to be sent.
func (l *link) send(n int, due int64) error {
	from := l.sent.Load()
	buf := l.frames.next(from, n)
	for i := range uint64(n) {
		l.at[(from+i)%MaxWindow].Store(due)
	}
	l.sent.Store(from + uint64(n)) // before the write: the ack may be faster than we are
	_, err := l.conn.Write(buf)
	return err
}

var errRefused = errors.New("connection refused")

const readSize = 4 << 10

// serve reads acks until the connection ends, and keeps the window full unless a schedule sends.
func (f *fleet) serve(l *link) {
	err := errRefused
	if l.conn != nil {
		err = f.read(l)
	}
	l.gone.Store(true)
	if !f.stopping.Load() || l.acked.Load() < l.sent.Load() && !errors.Is(err, net.ErrClosed) {
		f.broken.Add(1)
		f.firstErr.CompareAndSwap(nil, &err)
	}
}

func (f *fleet) read(l *link) error {
	if err := f.fill(l); err != nil {
		return err
	}
	buf := make([]byte, 0, readSize)
	buf = append(buf, l.rest...)
	for {
		used, err := f.taken(l, buf)
		if err != nil {
			return err
		}
		buf = buf[:copy(buf, buf[used:])]
		if err := f.fill(l); err != nil {
			return err
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := l.conn.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return err
		}
		buf = buf[:len(buf)+n]
	}
}

// fill sends as much as the window has room for, unless a schedule sends.
func (f *fleet) fill(l *link) error {
	if f.spec.Rate > 0 || f.stopping.Load() {
		return nil
	}
	sent := l.sent.Load()
	free := f.spec.Window - int(sent-l.acked.Load())
	if f.spec.Frames > 0 {
		free = min(free, int(f.spec.Frames-min(sent, f.spec.Frames)))
	}
	if free <= 0 {
		return nil
	}
	return l.send(free, time.Now().UnixNano())
}

// taken handles what has come, in the protocol of the link.
func (f *fleet) taken(l *link, buf []byte) (used int, err error) {
	if l.frames.packetAt > 0 {
		return f.takePackets(l, buf)
	}
	return f.take(l, buf)
}

// take handles the whole frames in buf and returns how much of it that was.
func (f *fleet) take(l *link, buf []byte) (used int, err error) {
	return split(buf, func(opcode byte, payload []byte) error { return f.frame(l, opcode, payload) })
}

// split hands the whole frames in buf over, one after the other, and returns how much of it that was [RFC6455 5.2].
func split(buf []byte, each func(opcode byte, payload []byte) error) (used int, err error) {
	for {
		b := buf[used:]
		if len(b) < 2 {
			return used, nil
		}
		head, size := 2, int(b[1]&0x7f)
		if size == 126 {
			if len(b) < 4 {
				return used, nil
			}
			head, size = 4, int(b[2])<<8|int(b[3])
		}
		if size == 127 {
			return used, errors.New("frame of the hub is over 64 KiB")
		}
		if len(b) < head+size {
			return used, nil
		}
		if err := each(b[0]&0x0f, b[head:head+size]); err != nil {
			return used, err
		}
		used += head + size
	}
}

// The opcodes that matter here.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

var (
	ackPrefix    = []byte(`{"type":"ack","seq":`)
	rejectPrefix = []byte(`{"type":"reject"`)
	byePrefix    = []byte(`{"type":"bye"`)
)

func pong(conn net.Conn, payload []byte) error {
	_, err := conn.Write(append([]byte{0x80 | opPong, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...))
	return err
}

func (f *fleet) frame(l *link, opcode byte, payload []byte) error {
	switch opcode {
	case opPing:
		return pong(l.conn, payload)
	case opClose:
		return fmt.Errorf("hub closes: %q", payload[min(2, len(payload)):])
	case opText:
	default:
		return nil
	}
	if seq, ok := bytes.CutPrefix(payload, ackPrefix); ok {
		n := uint64(0)
		for i := 0; i < len(seq) && seq[i]-'0' <= 9; i++ {
			n = n*10 + uint64(seq[i]-'0')
		}
		if n < firstSeq {
			return fmt.Errorf("ack of %d, which was never sent", n)
		}
		return f.ack(l, n-firstSeq+1)
	}
	if bytes.HasPrefix(payload, rejectPrefix) {
		err := fmt.Errorf("rejected: %s", payload)
		f.firstErr.CompareAndSwap(nil, &err)
		f.rejected.Add(1)
	}
	if bytes.HasPrefix(payload, byePrefix) {
		return fmt.Errorf("hub says bye: %s", payload)
	}
	return nil
}

// ack takes note that the first upTo frames are stored.
func (f *fleet) ack(l *link, upTo uint64) error {
	done := l.acked.Load()
	if upTo <= done || upTo > l.sent.Load() {
		return fmt.Errorf("ack of frame %d, while %d of %d are acknowledged", upTo, done, l.sent.Load())
	}
	if f.measuring.Load() {
		now, latency := time.Now().UnixNano(), &l.latency[f.phase()]
		for i := done; i < upTo; i++ {
			latency.record(time.Duration(now - l.at[i%MaxWindow].Load()))
		}
	}
	l.acked.Store(upTo)
	return nil
}
