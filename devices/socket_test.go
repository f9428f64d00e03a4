package devices_test

import (
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-hub/fairlead/devices"
)

// deviceSays lets a device say one piece after the other, and returns where the hub reads them.
func deviceSays(t *testing.T, every time.Duration, pieces ...[]byte) io.Reader {
	t.Helper()
	device, hub := net.Pipe()
	var said sync.WaitGroup
	t.Cleanup(func() {
		device.Close()
		hub.Close()
		said.Wait()
	})
	said.Go(func() {
		for _, p := range pieces {
			if _, err := device.Write(p); err != nil {
				return // the hub has closed
			}
			time.Sleep(every)
		}
	})
	return devices.NewSocket(hub)
}

// wantMore reads one piece of n bytes.
func wantMore(t *testing.T, r io.Reader, n int) {
	t.Helper()
	if got, err := r.Read(make([]byte, 4<<10)); err != nil || got != n {
		t.Fatalf("read %d bytes, %v; want %d", got, err, n)
	}
}

// TestHeldUpByTheHub reads the rest of a message long after its begin: the hub was busy with the one before it, and the
// rest was there all the time.
func TestHeldUpByTheHub(t *testing.T) {
	frame := maskedFrame(0x81, []byte(`{"type":"telemetry"}`))
	const begin = 5
	first := append(append([]byte(nil), frame...), frame[:begin]...)
	rest := append(append([]byte(nil), frame[begin:]...), frame[:begin]...)
	synctest.Test(t, func(t *testing.T) {
		r := deviceSays(t, 0, first, rest, rest, frame[begin:])
		wantMore(t, r, len(first))
		for range 2 { // the second time with a deadline that was set before
			time.Sleep(2 * devices.MessageTime) // the log stands still
			wantMore(t, r, len(rest))
		}
		time.Sleep(2 * devices.MessageTime)
		wantMore(t, r, len(frame)-begin)
	})
}

// TestDribbledMessageEnds is the control: a device that is waited for has its time and no more, in however many pieces.
func TestDribbledMessageEnds(t *testing.T) {
	frame := maskedFrame(0x81, []byte(`{"type":"telemetry"}`))
	var pieces [][]byte
	for i := range frame {
		pieces = append(pieces, frame[i:i+1])
	}
	synctest.Test(t, func(t *testing.T) {
		r := deviceSays(t, devices.MessageTime/4, pieces...)
		wantMore(t, r, 1)
		time.Sleep(2 * devices.MessageTime) // held up once, and then waited for
		for n := 1; ; n++ {
			_, err := r.Read(make([]byte, 1))
			if err == nil && n < len(frame) {
				continue
			}
			if !devices.Dribbled(err) || n > 6 {
				t.Fatalf("%d pieces, then %v", n, err)
			}
			return
		}
	})
}
