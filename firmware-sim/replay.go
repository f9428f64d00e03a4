package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Bounds of a replay.
const (
	replayBuffer  = 8192    // rows that are read and not acked
	repeatsWindow = 1 << 17 // times that are remembered to tell repeated ones
	defaultPoints = "telemetry"
	replayModel   = "replay"
)

// ReplayOptions describes the replay of one CSV file as one device.
type ReplayOptions struct {
	File        string
	Device      string        // empty: from the name of the file
	Measurement string        // empty: telemetry
	Speed       float64       // of the file's own timing; 0: as fast as acks allow
	Buffer      int           // rows kept until they are acked; 0: 8192
	Report      time.Duration // between two lines of progress; 0: 10 s
	Out         io.Writer     // of progress and summary; nil: none
}

// ParseSpeed reads a speed: a factor of the original timing, or max (or 0) for as fast as acks allow.
func ParseSpeed(s string) (float64, error) {
	if s == "max" {
		return 0, nil
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("speed %q: want a factor such as 60, or max", s)
	}
	return v, nil
}

// ReplayTally is what became of a file. Acked counts rows, Repeated those whose time came before in the file: of these
// the hub keeps the last.
type ReplayTally struct {
	Device        string
	Rows          uint64
	DistinctTimes uint64
	Repeated      uint64
	Empty         uint64 // rows without a number, which are not sent
	Ignored       uint64 // cells that are neither numbers nor empty
	AtLeast       bool   // the file goes further back in time than is remembered: there may be more repeats
	Tally         Tally
}

// String is the one-line summary.
func (t ReplayTally) String() string {
	s := fmt.Sprintf("device=%s rows=%d distinct_times=%d repeated=%d acked=%d unacked=%d rejected=%d resent=%d reconnects=%d",
		t.Device, t.Rows, t.DistinctTimes, t.Repeated, t.Tally.Acked, t.Tally.Unacked, t.Tally.Rejected, t.Tally.Resent, t.Tally.Reconnects)
	if t.Repeated > 0 {
		s += " (of rows with the same time the last one wins)"
	}
	if t.AtLeast {
		s += " (at least that many repeat; the file is not in order)"
	}
	if t.Empty > 0 || t.Ignored > 0 {
		s += fmt.Sprintf(" (%d rows without a number left out, %d cells that are not numbers)", t.Empty, t.Ignored)
	}
	return s
}

// Replay is a device whose sensor is a file.
type Replay struct {
	opts   ReplayOptions
	uplink *Uplink
	device *Device
	file   *os.File
	tape   *tape
}

// NewReplay opens the file and reads its header. The replay does not run yet; Run closes the file.
func NewReplay(u *Uplink, o ReplayOptions) (*Replay, error) {
	if o.Device == "" {
		name := filepath.Base(o.File)
		o.Device = wire.CleanID(strings.TrimSuffix(name, filepath.Ext(name)))
	}
	if o.Measurement == "" {
		o.Measurement = defaultPoints
	}
	if o.Buffer <= 0 {
		o.Buffer = replayBuffer
	}
	if o.Report <= 0 {
		o.Report = defaultReport
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	file, err := os.Open(o.File)
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	r, err := newReplay(u, o, file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return r, nil
}

func newReplay(u *Uplink, o ReplayOptions, file *os.File) (*Replay, error) {
	in, err := newReader(file, filepath.Base(o.File))
	if err != nil {
		return nil, err
	}
	own := &Uplink{
		URL: u.URL, TLS: u.TLS, Codec: u.Codec, Tokens: u.Tokens, Backoff: u.Backoff, Drain: u.Drain, Log: u.Log,
	}
	t := &tape{in: in, speed: o.Speed, seen: newTimes(repeatsWindow)}
	d, err := newDevice(own, DeviceOptions{ID: o.Device, Buffer: o.Buffer},
		shape{measurement: []byte(o.Measurement), columns: in.columns}, t, bare{})
	if err != nil {
		return nil, err
	}
	return &Replay{opts: o, uplink: own, device: d, file: file, tape: t}, nil
}

// Tally is what became of the file so far. It must not be called while the replay runs.
func (r *Replay) Tally() ReplayTally {
	t := r.tape
	return ReplayTally{
		Device: r.opts.Device, Rows: t.rows, DistinctTimes: t.rows - t.repeated, Repeated: t.repeated, Empty: t.empty,
		Ignored: uint64(t.in.ignored), AtLeast: t.seen.lost, Tally: r.uplink.Counts.Tally(),
	}
}

// Run sends the file and returns when the hub has acked or rejected all of it. It prints a line of progress now and then
// and a last one. An end of the context before that is an error.
func (r *Replay) Run(ctx context.Context) error {
	over, reported := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(reported)
		r.report(over)
	}()
	err := r.device.Run(ctx)
	close(over)
	<-reported
	err = errors.Join(err, r.file.Close())
	t := r.Tally()
	_, _ = fmt.Fprintln(r.opts.Out, t) // a writer that does not take it cannot be told of that either
	if err == nil && (!r.device.exhausted || t.Tally.Unacked > 0) {
		err = fmt.Errorf("replay of %s: stopped with %d rows sent and %d of them unacked", r.opts.File, t.Tally.Sent, t.Tally.Unacked)
	}
	if lost := t.Tally.Rejected + t.Tally.Dropped; err == nil && lost > 0 {
		err = fmt.Errorf("replay of %s: %d of %d rows were not taken by the hub", r.opts.File, lost, t.Rows)
	}
	return err
}

func (r *Replay) report(over <-chan struct{}) {
	ticker := time.NewTicker(r.opts.Report)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			t := r.uplink.Counts.Tally()
			_, _ = fmt.Fprintf(r.opts.Out, "device=%s sent=%d acked=%d unacked=%d rejected=%d resent=%d reconnects=%d\n",
				r.opts.Device, t.Sent, t.Acked, t.Unacked, t.Rejected, t.Resent, t.Reconnects)
		case <-over:
			return
		}
	}
}

// tape is the source of a replay. It reads no further than the backlog has room, so a file may have any size.
type tape struct {
	in    *reader
	speed float64 // 0: no timing

	started time.Time // when the first row was due
	first   time.Time // of the file
	at      time.Time // of the row in hand
	row     []float64
	inHand  bool
	ended   bool

	rows, repeated, empty uint64
	seen                  *times
}

func (t *tape) fill(b *backlog, now time.Time) (filling, error) {
	var f filling
	for !b.full() {
		if err := t.advance(now); err != nil {
			return f, err
		}
		if t.ended {
			f.done = true
			return f, nil
		}
		if due := t.due(); due.After(now) {
			f.next = due
			return f, nil
		}
		b.add(t.at.UnixNano(), t.row) // there is room
		f.made++
		t.inHand = false
	}
	return f, nil
}

// advance takes the next row in hand if there is none.
func (t *tape) advance(now time.Time) error {
	for !t.inHand && !t.ended {
		at, row, values, err := t.in.read()
		if errors.Is(err, io.EOF) {
			t.ended = true
			return nil
		}
		if err != nil {
			return err
		}
		if values == 0 {
			t.empty++
			continue
		}
		if t.rows == 0 {
			t.started, t.first = now, at
		}
		t.rows++
		if t.seen.again(at.UnixNano()) {
			t.repeated++
		}
		t.at, t.row, t.inHand = at, row, true
	}
	return nil
}

// due is when the row in hand is to be sent. A row that goes back in time is due at once.
func (t *tape) due() time.Time {
	if t.speed == 0 {
		return time.Time{}
	}
	wait := float64(t.at.Sub(t.first)) / t.speed
	if wait > float64(math.MaxInt64/2) {
		wait = float64(math.MaxInt64 / 2)
	}
	return t.started.Add(time.Duration(wait))
}

// times tells whether a time came before. It remembers the last ones only, but a time beyond all others is always new.
type times struct {
	ring   []int64
	count  int
	index  map[int64]struct{}
	latest int64
	oldest int64 // the latest time that was forgotten
	lost   bool  // a time came that may have been forgotten
}

func newTimes(window int) *times {
	return &times{ring: make([]int64, 0, 64), index: map[int64]struct{}{}, latest: math.MinInt64, oldest: math.MinInt64, count: -window}
}

func (s *times) again(at int64) bool {
	if at <= s.latest {
		if _, known := s.index[at]; known {
			return true
		}
		s.lost = s.lost || at <= s.oldest
	}
	s.latest = max(s.latest, at)
	s.index[at] = struct{}{}
	if s.count < 0 {
		s.ring = append(s.ring, at)
		s.count++
		return false
	}
	slot := &s.ring[s.count%len(s.ring)]
	delete(s.index, *slot)
	s.oldest = max(s.oldest, *slot)
	*slot = at
	s.count++
	return false
}

// bare is the panel of a device without commands or state.
type bare struct{}

func (bare) hello() *wire.Hello  { return &wire.Hello{Firmware: firmware, Model: replayModel} }
func (bare) settings() []setting { return nil }
func (bare) command(name string, _ json.RawMessage) (plan, *wire.Fault) {
	return plan{}, unknown(name)
}
