package devices

import (
	"encoding/binary"
	"time"

	"github.com/gorilla/websocket"
)

// A device may ping pingRate times a second, and pingBurst times at once after a silence.
const (
	pingRate  = 10
	pingBurst = 20
)

// pingBudget is a token bucket, counted in milliseconds of the refill.
type pingBudget struct {
	debt int32 // milliseconds of refill that are owed
	last int64 // milliseconds on the registry's clock, which nobody sets
}

// take counts a ping at a time on the registry's clock.
func (b *pingBudget) take(now int64) bool {
	ms := now / int64(time.Millisecond)
	if passed := ms - b.last; passed > 0 {
		b.debt = int32(max(0, int64(b.debt)-passed))
		b.last = ms
	}
	const cost = 1000 / pingRate
	if b.debt+cost > pingBurst*cost {
		return false
	}
	b.debt += cost
	return true
}

// control handles one well-formed ping or pong that stands next in the buffer, whole. The WebSocket reader would
// handle it too, but then wait for the next message with the buffer in hand: every idle session would hold one after
// its first pong. Everything else, also every malformed frame, is left to the reader.
func (s *Session) control() (done bool, err error) {
	br := &s.sock.br
	const head = 6 // two bytes and the mask
	if br.Buffered() == 0 && s.sock.raw != nil {
		// Something has come, or the socket has ended. A buffer tells an error once, so it ends here.
		if _, err := br.Peek(1); err != nil {
			return false, err
		}
	}
	if br.Buffered() < head {
		return false, nil
	}
	h, err := br.Peek(head)
	if err != nil {
		return false, err
	}
	opcode, length := h[0]&opcodeMask, int(h[1]&lengthMask)
	whole := br.Buffered() >= head+length
	if h[0]&^opcodeMask != finBit || h[1]&maskBit == 0 || length > 125 || !whole {
		return false, nil
	}
	if opcode != websocket.PingMessage && opcode != websocket.PongMessage {
		return false, nil
	}
	var room [131]byte
	frame, err := br.Peek(head + length)
	if err != nil {
		return false, err
	}
	copy(room[:], frame)
	if _, err := br.Discard(len(frame)); err != nil {
		return false, err
	}
	payload := room[head : head+length]
	for i := range payload {
		payload[i] ^= room[2+i%4]
	}
	if opcode == websocket.PingMessage {
		s.ping(payload)
	} else {
		s.pong(payload)
	}
	return true, nil
}

// ping answers a device's ping.
func (s *Session) ping(payload []byte) {
	if s.ending() {
		return
	}
	if !s.pings.take(s.host.clock.Load()) {
		s.stop(endPings)
		return
	}
	_ = s.queue(websocket.PongMessage, payload, nil) // the session ends if it cannot be sent
}

// pong counts as a sign of life only if it answers our newest ping: anybody can send pongs.
func (s *Session) pong(payload []byte) {
	if len(payload) != 8 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if binary.BigEndian.Uint64(payload) == s.watch.nonce && s.watch.pinged {
		s.watch.pinged = false
		s.heard.Store(s.host.clock.Load())
	}
}
