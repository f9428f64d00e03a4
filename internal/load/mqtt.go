package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// The packets of MQTT 3.1.1 that a publisher needs [MQTT 3.1.1, 3].
const (
	packetConnect  = 0x10
	packetConnack  = 0x20
	packetPublish1 = 0x32 // QoS 1
	packetPuback   = 0x40
)

// Topic is where device i of a load publishes.
func Topic(i int) string { return "telemetry/" + clientName(i) }

func clientName(i int) string { return fmt.Sprintf("bench-%05d", i) }

// packetID is the id of message number n: 1 to 65535, in a circle much larger than any window.
func packetID(n uint64) uint16 { return uint16(n%65535 + 1) }

// newMessages renders what one device publishes: an MQTT message each, with one line of 3 fields.
func newMessages(spec Spec, device int) *frames {
	line := fmt.Sprintf("%s,device=%s temp=%s,humidity=4%d.2,voltage=3.29 %s000000",
		spec.Text, clientName(device), readMark, device%10, timeMark)
	frame, packetAt := appendPublish(nil, Topic(device), line)
	f := &frames{size: len(frame), points: 1, start: spec.Start, packetAt: packetAt}
	f.timeAt = offsets(frame, " ", timeMark)
	f.readAt = offsets(frame, "temp=", readMark)
	for range max(spec.Window, spec.Burst) {
		f.buf = append(f.buf, frame...)
	}
	return f
}

// appendPublish writes a PUBLISH and says where its packet id stands.
func appendPublish(dst []byte, topic, payload string) (packet []byte, idAt int) {
	dst = append(dst, packetPublish1)
	dst = binary.AppendUvarint(dst, uint64(2+len(topic)+2+len(payload))) // MQTT's lengths are such varints
	dst = appendString(dst, topic)
	idAt = len(dst)
	return append(append(dst, 0, 1), payload...), idAt
}

func appendString(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

// introduce connects a client with a clean session and no keep-alive.
func introduce(conn net.Conn, name string) error {
	const level, cleanSession = 4, 2
	body := appendString(nil, "MQTT")
	body = append(body, level, cleanSession, 0, 0)
	body = appendString(body, name)
	packet := append(binary.AppendUvarint([]byte{packetConnect}, uint64(len(body))), body...)
	if _, err := conn.Write(packet); err != nil {
		return err
	}
	var answer [4]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return fmt.Errorf("connect to the broker: %w", err)
	}
	if answer[0] != packetConnack || answer[3] != 0 {
		return fmt.Errorf("connect to the broker: refused with code %d", answer[3])
	}
	return nil
}

// takePackets handles the PUBACKs in buf and returns how much of it they were. A broker acknowledges in order
// [MQTT-4.6.0-2].
func (f *fleet) takePackets(l *link, buf []byte) (used int, err error) {
	const size = 4
	for ; len(buf)-used >= size; used += size {
		p := buf[used : used+size]
		if p[0] != packetPuback || p[1] != 2 {
			return used, fmt.Errorf("broker sent a packet of type %#x", p[0])
		}
		done := l.acked.Load()
		if id := binary.BigEndian.Uint16(p[2:]); id != packetID(done) {
			return used, fmt.Errorf("broker acknowledged %d, not %d", id, packetID(done))
		}
		if err := f.ack(l, done+1); err != nil {
			return used, err
		}
	}
	return used, nil
}

// Publish sends one message at QoS 1 to the broker at addr and waits for its PUBACK.
func Publish(ctx context.Context, addr, topic, payload string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline.Add(-time.Millisecond)) // if it fails, so does reading
	if err := introduce(conn, "probe"); err != nil {
		return err
	}
	packet, _ := appendPublish(nil, topic, payload)
	if _, err := conn.Write(packet); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	var ack [4]byte
	if _, err := io.ReadFull(conn, ack[:]); err != nil || ack[0] != packetPuback {
		return fmt.Errorf("publish: no PUBACK: %w", err)
	}
	return nil
}
