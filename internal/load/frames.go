package load

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"
)

// firstSeq makes all sequence numbers equally long, so that a frame is rendered once and then only patched.
const firstSeq = 1_000_000_000

// history is how far back the first point of a load lies; each point is a millisecond behind the one before.
const history = 24 * time.Hour

// frames renders what one device sends: a WebSocket text frame each, with its own sequence number, its own times and a
// reading that moves.
type frames struct {
	buf    []byte // room for a window of frames, one after the other
	size   int    // of one frame with its header
	points int
	start  int64 // Unix milliseconds of the first point
	seqAt  int   // offsets in a frame
	timeAt []int
	readAt []int
	unitAt []int
	units  int

	packetAt int // of the packet id of an MQTT message, which has no sequence number; 0: a WebSocket frame
}

const (
	seqMark  = "1000000000"
	timeMark = "1700000000000"
	readMark = "20.00"
	unitMark = "u0000"
)

func newFrames(spec Spec, device int) *frames {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"type":"telemetry","seq":%s,`, seqMark)
	if spec.Points == 1 && !spec.Small {
		// About 200 bytes, as a small controller with its whole state.
		fmt.Fprintf(&b, `"measurement":"%s","time":%s,"fields":{"temp":%s,"humidity":4%d.2,"pressure":1013.%d,"voltage":3.29,"rssi":-6%d,"open":false}}`,
			spec.Text, timeMark, readMark, device%10, device%100, device%10)
	} else {
		b.WriteString(`"points":[`)
		for i := range spec.Points {
			if i > 0 {
				b.WriteByte(',')
			}
			unit := ""
			if spec.Units > 0 {
				unit = `"tags":{"unit":"` + unitMark + `"},`
			}
			fmt.Fprintf(&b, `{"measurement":"%s","time":%s,%s"fields":{"temp":%s,"humidity":4%d.2,"voltage":3.29}}`,
				spec.Text, timeMark, unit, readMark, device%10)
		}
		b.WriteString(`]}`)
	}
	f := &frames{points: spec.Points, start: spec.Start, units: spec.Units}
	frame := appendHeader(nil, b.Len())
	frame = append(frame, b.Bytes()...)
	f.size = len(frame)
	f.seqAt = bytes.Index(frame, []byte(`"seq":`+seqMark)) + len(`"seq":`)
	f.timeAt = offsets(frame, `"time":`, timeMark)
	f.readAt = offsets(frame, `"temp":`, readMark)
	f.unitAt = offsets(frame, `"unit":"`, unitMark)
	f.buf = bytes.Repeat(frame, max(spec.Window, spec.Burst))
	return f
}

func offsets(frame []byte, key, value string) (at []int) {
	mark := []byte(key + value)
	for i := bytes.Index(frame, mark); i >= 0; {
		at = append(at, i+len(key))
		next := bytes.Index(frame[i+1:], mark)
		if next < 0 {
			break
		}
		i += 1 + next
	}
	return at
}

// appendHeader writes the header of a final, masked text frame [RFC6455 5.2]. The mask is zero, so that the payload can
// be patched in place; the server unmasks all the same.
func appendHeader(dst []byte, n int) []byte {
	const final, masked = 0x80, 0x80
	dst = append(dst, final|opText)
	switch {
	case n < 126:
		dst = append(dst, masked|byte(n))
	case n <= 0xffff:
		dst = append(dst, masked|126, byte(n>>8), byte(n))
	default:
		dst = append(dst, masked|127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(dst, 0, 0, 0, 0)
}

// next returns the n frames that follow the first sent ones. They are good until the next call.
func (f *frames) next(sent uint64, n int) []byte {
	for i := range n {
		frame := f.buf[i*f.size : (i+1)*f.size]
		number := sent + uint64(i)
		if f.packetAt > 0 {
			binary.BigEndian.PutUint16(frame[f.packetAt:], packetID(number))
		} else {
			digits(frame[f.seqAt:f.seqAt+len(seqMark)], firstSeq+number)
		}
		for p := range f.points {
			point := number*uint64(f.points) + uint64(p)
			digits(frame[f.timeAt[p]:f.timeAt[p]+len(timeMark)], uint64(f.start)+point)
			reading := frame[f.readAt[p]:]
			digits(reading[3:5], point*7%100)
			reading[1] = '0' + byte(point/5%10)
			if f.units > 0 {
				digits(frame[f.unitAt[p]+1:f.unitAt[p]+len(unitMark)], point%uint64(f.units))
			}
		}
	}
	return f.buf[:n*f.size]
}

// digits writes the last digits of v.
func digits(dst []byte, v uint64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = '0' + byte(v%10)
		v /= 10
	}
}
