package devices

import (
	"encoding/binary"

	"github.com/gorilla/websocket"
)

// whole handles the message that stands next in the buffer, if it came in one frame and is all there: in place, without
// the copy and the allocation that the WebSocket reader makes of each. The walker has checked its header already.
func (s *Session) whole() bool {
	const (
		shortHead = 2
		longHead  = 4
		maskBytes = 4
	)
	br := &s.sock.br
	buffered := br.Buffered()
	if buffered < longHead+maskBytes {
		return false
	}
	h, err := br.Peek(longHead)
	if err != nil {
		return false
	}
	kind, head, size := h[0]&opcodeMask, shortHead, int(h[1]&lengthMask)
	switch size {
	case 126:
		head, size = longHead, int(binary.BigEndian.Uint16(h[2:]))
	case 127:
		return false // longer than the buffer
	}
	total := head + maskBytes + size
	data := kind == websocket.TextMessage || kind == websocket.BinaryMessage
	if !data || h[0]&^opcodeMask != finBit || h[1]&maskBit == 0 || size > s.host.cfg.FrameBytes || buffered < total {
		return false
	}
	frame, err := br.Peek(total)
	if err != nil {
		return false
	}
	if s.scratch == nil {
		s.work()
	}
	unmask(frame[head+maskBytes:], frame[head:head+maskBytes])
	s.message(kind, frame[head+maskBytes:])
	_, _ = br.Discard(total) // it is buffered
	return true
}

// unmask takes the client's mask off a payload [RFC6455 5.3].
func unmask(payload, mask []byte) {
	four := uint64(binary.LittleEndian.Uint32(mask))
	eight := four | four<<32
	for len(payload) >= 8 {
		binary.LittleEndian.PutUint64(payload, binary.LittleEndian.Uint64(payload)^eight)
		payload = payload[8:]
	}
	for i := range payload {
		payload[i] ^= mask[i%len(mask)]
	}
}
