package load

import (
	"bytes"
	"encoding/binary"
	"net"
)

// obedient is a device that does what it is told, at once.
type obedient struct {
	conn net.Conn
	rest []byte // read behind the answer to the handshake

	times map[string]int // how often each command came; owned by run
}

var (
	commandPrefix = []byte(`{"type":"command"`)
	idKey         = []byte(`"id":"`)
)

// run obeys until the connection ends.
func (b *obedient) run() {
	defer b.conn.Close()
	buf := append(make([]byte, 0, readSize), b.rest...)
	for {
		used, err := split(buf, b.frame)
		if err != nil {
			return
		}
		buf = buf[:copy(buf, buf[used:])]
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := b.conn.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return
		}
		buf = buf[:len(buf)+n]
	}
}

func (b *obedient) frame(opcode byte, payload []byte) error {
	if opcode == opPing {
		return pong(b.conn, payload)
	}
	if opcode != opText || !bytes.HasPrefix(payload, commandPrefix) {
		return nil
	}
	_, rest, _ := bytes.Cut(payload, idKey)
	id, _, _ := bytes.Cut(rest, []byte{'"'})
	b.times[string(id)]++
	answer := append(append([]byte(`{"type":"result","id":"`), id...), `","ok":true,"result":{"done":true}}`...)
	_, err := b.conn.Write(masked(answer))
	return err
}

// masked is a text frame of a client; a mask of zeros leaves the text as it is [RFC6455 5.3].
func masked(text []byte) []byte {
	frame := []byte{0x80 | opText}
	if len(text) < 126 {
		frame = append(frame, 0x80|byte(len(text)))
	} else {
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(len(text)))
	}
	return append(append(frame, 0, 0, 0, 0), text...)
}
