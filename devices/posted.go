package devices

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/problem"
)

// posted is one body on its way to the log. It outlives its request if the log takes long: what the log has begun to
// take cannot be taken back.
type posted struct {
	uplink *Uplink
	device string
	labels map[string]string
	medium
	scratch *scratch
	data    []byte // in scratch
	stored  chan struct{}
	quit    chan struct{} // closed when nobody waits any more
}

func newPosted(u *Uplink, device string, labels map[string]string, m medium) *posted {
	return &posted{
		uplink: u, device: device, labels: labels, medium: m, scratch: takeScratch(),
		stored: make(chan struct{}, 1), quit: make(chan struct{}),
	}
}

// read reads the body, which must come in time.
func (j *posted) read(w http.ResponseWriter, r *http.Request) *problem.Document {
	// A connection without deadlines is a test's; the server takes the deadline back itself.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(j.uplink.bodyWait))
	data, err := readAll(http.MaxBytesReader(w, r.Body, int64(j.uplink.cfg.FrameBytes)), j.scratch.message[:0])
	j.scratch.message, j.data = data[:0], data
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return tooBig()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, io.ErrUnexpectedEOF):
		// 400 would say that the points are bad, and a device would let go of them.
		return problem.New(http.StatusRequestTimeout, refuseBody, "the body did not come whole in time").
			WithHint("send it again, or fewer points at a time")
	case err != nil:
		return refuse400(refuseBody, "the body is not what its headers say")
	}
	j.uplink.metrics.bytes.Add(float64(len(data)))
	return nil
}

// run stores the points, tells done and gives back what the post held.
func (j *posted) run(done chan<- error) {
	u := j.uplink
	defer u.leave()
	defer func() { <-u.slots }()
	defer u.give(j.device)
	defer j.scratch.release()
	done <- j.store()
}

// errGone says that nobody waits for the points any more; they may be stored all the same.
var errGone = errors.New("nobody waits")

func (j *posted) store() error {
	t, err := j.decode()
	if err != nil {
		j.uplink.quota.pay(j.device, j.uplink.now(), len(j.data), 0)
		return err
	}
	j.uplink.quota.pay(j.device, j.uplink.now(), len(j.data), len(t.Points))
	source := j.uplink.telemetry.Open(j.device, j.labels, j)
	defer source.Close()
	if err := source.Append(t); err != nil {
		j.trace(err)
		return err
	}
	j.uplink.presence.Pointed(j.device)
	select {
	case <-j.stored:
		j.trace(nil)
		return nil
	case <-j.quit:
		j.trace(errGone)
		return errGone
	}
}

// Stored hears from the log that the points are on disk.
func (j *posted) Stored(uint64) {
	select {
	case j.stored <- struct{}{}:
	default:
	}
}

func (j *posted) decode() (*wire.Telemetry, error) {
	d := &j.scratch.decoder
	d.Device, d.MaxPoints, d.Number = j.device, j.uplink.cfg.PointsPerFrame, 1
	d.Type, d.Precision = "telemetry", j.precision
	defer func() { d.Type, d.Precision = "", 0 }() // a session's decoder is told neither
	frame, err := d.Decode(j.codec, j.data)
	var unknown *wire.UnknownType
	if errors.As(err, &unknown) {
		err = &wire.Reject{Code: wire.InvalidFrame, Path: "type", Message: unknown.Error()}
	}
	if err != nil {
		j.trace(err)
		return nil, err
	}
	t, ok := frame.(*wire.Telemetry)
	if !ok {
		return nil, &wire.Reject{Code: wire.InvalidFrame, Path: "type", Message: "type: only telemetry is posted; the rest needs a session"}
	}
	j.uplink.metrics.framesIn[frameTelemetry].Inc()
	t.Seq = 1 // so that the log tells when it is stored; a body has no seq of its own
	return t, nil
}

// trace shows the body to who looks at the device's frames.
func (j *posted) trace(err error) {
	t := j.uplink.tracer(j.device)
	if t == nil {
		return
	}
	f := traced(j.codec, j.data)
	f.Time, f.Device, f.Fate = j.uplink.now(), j.device, fateStored
	var rej *wire.Reject
	if errors.As(err, &rej) {
		f.Fate = string(rej.Code)
	} else if err != nil {
		f.Fate = fateTaken // it may be stored all the same
	}
	t.show(f)
}
