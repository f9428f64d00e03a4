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

	slices []Histogram // latency in each slice of the measured time; owned by serve
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
	closed := f.spec.Rate == 0
	if closed {
		if err := l.send(f.spec.Window, time.Now().UnixNano()); err != nil {
			return err
		}
	}
	buf := make([]byte, 0, readSize)
	buf = append(buf, l.rest...)
	for {
		used, err := f.take(l, buf)
		if err != nil {
			return err
		}
		buf = buf[:copy(buf, buf[used:])]
		if free := f.spec.Window - int(l.sent.Load()-l.acked.Load()); closed && free > 0 && !f.stopping.Load() {
			if err := l.send(free, time.Now().UnixNano()); err != nil {
				return err
			}
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

// take handles the whole frames in buf and returns how much of it that was [RFC6455 5.2].
func (f *fleet) take(l *link, buf []byte) (used int, err error) {
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
		if err := f.frame(l, b[0]&0x0f, b[head:head+size]); err != nil {
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

func (f *fleet) frame(l *link, opcode byte, payload []byte) error {
	switch opcode {
	case opPing:
		pong := append([]byte{0x80 | opPong, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)
		_, err := l.conn.Write(pong)
		return err
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
		return f.ack(l, n)
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

// slice is which part of the measured time a moment lies in.
func (f *fleet) slice(now int64) int {
	if f.spec.Slice <= 0 {
		return 0
	}
	return int(max(now-f.began.Load(), 0) / int64(f.spec.Slice))
}

// ack takes note that everything up to seq is stored.
func (f *fleet) ack(l *link, seq uint64) error {
	upTo := seq - firstSeq + 1
	done := l.acked.Load()
	if seq < firstSeq || upTo <= done || upTo > l.sent.Load() {
		return fmt.Errorf("ack of %d, while %d of %d frames are acknowledged", seq, done, l.sent.Load())
	}
	if f.measuring.Load() {
		now := time.Now().UnixNano()
		slice := f.slice(now)
		for len(l.slices) <= slice {
			l.slices = append(l.slices, Histogram{})
		}
		for i := done; i < upTo; i++ {
			l.slices[slice].record(time.Duration(now - l.at[i%MaxWindow].Load()))
		}
	}
	l.acked.Store(upTo)
	return nil
}
