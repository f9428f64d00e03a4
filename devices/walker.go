package devices

import (
	"encoding/binary"
	"errors"
)

// maxFragments is the most frames that one message may come in.
const maxFragments = 64

var (
	errFragments = errors.New("message in too many fragments")
	// errFraming is what the WebSocket reader lets pass: a length in more bytes than it needs or with its highest bit
	// set [RFC6455 5.2], and half a close code [RFC6455 5.5.1].
	errFraming = errors.New("bad frame header")
)

// walker follows the frame headers of a byte stream [RFC6455 5.2]. The WebSocket reader hides continuation frames and
// does not say whether a message has begun; both matter here, because empty fragments count against no size limit and
// an unfinished message must end some day.
type walker struct {
	left      uint64 // of the payload of the current frame
	header    [14]byte
	have      uint8 // bytes of header
	fragments uint8
	open      bool // a message has begun whose last frame has not
	final     bool // the current frame ends a message, or is a control frame outside one
}

const (
	finBit       = 0x80
	maskBit      = 0x80
	opcodeMask   = 0x0f
	lengthMask   = 0x7f
	firstControl = 0x8
	closeOpcode  = 0x8
)

// feed takes the next bytes of the stream and reports whether a message ended in them.
func (w *walker) feed(p []byte) (ended bool, err error) {
	for len(p) > 0 {
		if w.left > 0 {
			n := min(w.left, uint64(len(p)))
			w.left -= n
			p = p[n:]
			ended = ended || w.left == 0 && w.final
			continue
		}
		w.header[w.have] = p[0]
		w.have++
		p = p[1:]
		if w.have < 2 || w.have < headerSize(w.header[1]) {
			continue
		}
		if err := w.enter(); err != nil {
			return ended, err
		}
		ended = ended || w.left == 0 && w.final
	}
	return ended, nil
}

// enter begins the frame whose header is complete.
func (w *walker) enter() error {
	fin, opcode := w.header[0]&finBit != 0, w.header[0]&opcodeMask
	w.left = payloadLength(&w.header)
	w.have = 0
	if !minimal(w.header[1]&lengthMask, w.left) || opcode == closeOpcode && w.left == 1 {
		return errFraming
	}
	switch {
	case opcode >= firstControl:
		w.final = !w.open
		return nil
	case opcode != 0:
		w.fragments = 0
	}
	w.fragments++
	w.open, w.final = !fin, fin
	if w.fragments > maxFragments {
		return errFragments
	}
	return nil
}

// incomplete reports whether the stream stands inside a message or a frame.
func (w *walker) incomplete() bool { return w.open || w.left > 0 || w.have > 0 }

func headerSize(second byte) uint8 {
	size := uint8(2)
	switch second & lengthMask {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if second&maskBit != 0 {
		size += 4
	}
	return size
}

func payloadLength(h *[14]byte) uint64 {
	switch n := h[1] & lengthMask; n {
	case 126:
		return uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		return binary.BigEndian.Uint64(h[2:])
	default:
		return uint64(n)
	}
}

// minimal reports whether a length is written as short as it can be, and is one.
func minimal(form byte, n uint64) bool {
	switch form {
	case 126:
		return n > 125
	case 127:
		return n > 0xffff && n>>63 == 0
	}
	return true
}
