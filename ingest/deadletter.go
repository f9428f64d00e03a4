package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// Deadletter is one point that InfluxDB refused. Seq is its place in the stream.
type Deadletter struct {
	Seq    uint64 `json:"seq"`
	Time   int64  `json:"time"` // Unix milliseconds of the refusal
	Device string `json:"device"`
	Line   string `json:"line,omitempty"`
	Batch  []byte `json:"batch,omitempty"` // an unreadable message of the log, or a very long line; perhaps in parts
	Reason string `json:"reason"`
}

// Deadletters keeps the points that InfluxDB refused, for operators to see and to replay.
type Deadletters struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

// NewDeadletters returns the dead letters in stream.
func NewDeadletters(js jetstream.JetStream, stream jetstream.Stream) *Deadletters {
	return &Deadletters{js: js, stream: stream}
}

// unknownDevice stands for a line whose device cannot be read.
const unknownDevice = "unknown"

// Keep stores refused lines durably, each as a letter. It repeats until it has, or ctx ends: the lines were acked.
func (d *Deadletters) Keep(ctx context.Context, lines []byte, reason error) error {
	whole, named := letterReason(reason.Error()), namedLines(reason)
	var post post
	number := -1
	for line := range bytes.Lines(lines) {
		number++
		text := whole
		if why, ok := named[number]; ok {
			text = letterReason(why)
		}
		line = bytes.TrimSuffix(line, []byte("\n"))
		if len(line) > letterBytes {
			if err := d.flush(ctx, &post); err != nil { // letters of a device stand in order
				return err
			}
			if err := d.keepParts(ctx, lineDevice(line), line, text); err != nil {
				return err
			}
			continue
		}
		if err := post.add(Deadletter{Device: lineDevice(line), Line: string(line), Reason: text}); err != nil {
			return err
		}
		if post.full() {
			if err := d.flush(ctx, &post); err != nil {
				return err
			}
		}
	}
	return d.flush(ctx, &post)
}

// What a dead letter holds must fit one message of the bus, as JSON: the letter that does not would be tried for ever,
// and nothing of its lane be written meanwhile.
const (
	letterBytes = 448 << 10
	reasonBytes = 4 << 10
)

func letterReason(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), reasonBytes)], "")
}

func (d *Deadletters) keepBatch(ctx context.Context, seq uint64, batch []byte, reason error) error {
	return d.keepParts(ctx, unknownDevice, batch, "batch "+strconv.FormatUint(seq, 10)+": "+reason.Error())
}

func (d *Deadletters) keepParts(ctx context.Context, device string, whole []byte, reason string) error {
	parts := (len(whole) + letterBytes - 1) / letterBytes
	n := 0
	for part := range slices.Chunk(whole, letterBytes) {
		n++
		l := Deadletter{Device: device, Batch: part, Reason: reason}
		if parts > 1 {
			l.Reason = fmt.Sprintf("part %d of %d: %s", n, parts, reason)
		}
		if err := d.keep(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

func (d *Deadletters) keep(ctx context.Context, l Deadletter) error {
	var post post
	if err := post.add(l); err != nil {
		return err
	}
	return d.flush(ctx, &post)
}

// lineDevice reads the device tag of a line that the hub rendered; it needs no escapes.
func lineDevice(line []byte) string {
	_, rest, ok := bytes.Cut(line, []byte(","+deviceTag+"="))
	if !ok {
		return unknownDevice
	}
	id := string(rest[:max(bytes.IndexAny(rest, ", "), 0)])
	if wire.CheckID(id) != nil {
		return unknownDevice
	}
	return id
}

// List returns up to limit dead letters, newest first, of one device or of all (""), older than before (0: the newest).
func (d *Deadletters) List(ctx context.Context, device string, before uint64, limit int) ([]Deadletter, error) {
	info, err := d.stream.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("dead letters: %w", err)
	}
	first, last := max(info.State.FirstSeq, 1), info.State.LastSeq
	if before > 0 && before <= last {
		last = before - 1
	}
	var out []Deadletter
	for span := uint64(limit); last >= first && len(out) < limit; {
		from := first
		if last-first >= span {
			from = last - span + 1
		}
		found, err := d.read(ctx, device, from, last, limit-len(out))
		if err != nil {
			return nil, err
		}
		slices.Reverse(found)
		out = append(out, found...)
		last = from - 1
		if len(found) <= limit/spanGrowth { // of a device that has few, or where most were replayed
			span *= spanGrowth
		}
	}
	return out, nil
}

// spanGrowth is how much further one look back reaches than the one before that found little.
const spanGrowth = 8

// read returns the newest dead letters, at most limit, of a device or of all within a part of the stream, oldest first.
func (d *Deadletters) read(ctx context.Context, device string, from, to uint64, limit int) (found []Deadletter, err error) {
	subject := ""
	if device != "" {
		if subject, err = bus.DeadletterSubject(device); err != nil {
			return nil, nil //nolint:nilerr // no device has such an id
		}
	}
	keep := func(l Deadletter) {
		if len(found) == limit {
			found = slices.Delete(found, 0, 1)
		}
		found = append(found, l)
	}
	for from > 0 && from <= to {
		if from, err = d.readBatch(ctx, subject, from, to, keep); err != nil {
			return nil, fmt.Errorf("dead letters: %w", err)
		}
	}
	return found, nil
}

// Bounds of one request for dead letters.
const (
	letterBatch      = 256
	letterBatchBytes = 8 << 20
	letterBatchTime  = 10 * time.Second
)

// readBatch calls each for some dead letters within a part of the stream, in order, and returns where to go on; 0 ends it.
func (d *Deadletters) readBatch(ctx context.Context, subject string, from, to uint64, each func(Deadletter)) (next uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, letterBatchTime)
	defer cancel()
	opts := []jetstreamext.GetBatchOpt{jetstreamext.GetBatchSeq(from), jetstreamext.GetBatchMaxBytes(letterBatchBytes)}
	if subject != "" {
		opts = append(opts, jetstreamext.GetBatchSubject(subject))
	}
	msgs, err := jetstreamext.GetBatch(ctx, d.js, bus.StreamDeadletter, letterBatch, opts...)
	if err != nil {
		return 0, err
	}
	// The whole answer is taken even after an error: the rest of it would meet a subscription that is gone.
	for msg, failed := range msgs {
		if failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		if next = msg.Sequence + 1; msg.Sequence > to {
			continue
		}
		l, bad := letter(msg)
		if bad != nil {
			err = errors.Join(err, bad)
			continue
		}
		each(l)
	}
	switch {
	case errors.Is(err, jetstreamext.ErrNoMessages):
		return 0, nil
	case err == nil && next == 0:
		return 0, ctx.Err()
	}
	return next, err
}

func letter(msg *jetstream.RawStreamMsg) (Deadletter, error) {
	var l Deadletter
	if err := json.Unmarshal(msg.Data, &l); err != nil {
		return Deadletter{}, fmt.Errorf("dead letter %d: %w", msg.Sequence, err)
	}
	l.Seq = msg.Sequence
	return l, nil
}

func (d *Deadletters) at(ctx context.Context, seq uint64) (Deadletter, error) {
	msg, err := d.stream.GetMsg(ctx, seq)
	if err != nil {
		return Deadletter{}, fmt.Errorf("dead letter %d: %w", seq, err)
	}
	return letter(msg)
}

// Replay writes dead letters to the store again and removes those that it takes. It returns how many it took, and how
// many it refused once more.
func (d *Deadletters) Replay(ctx context.Context, store Store, seqs []uint64) (took, refused int, err error) {
	for _, seq := range seqs {
		l, err := d.at(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return took, refused, err
		}
		lines := []byte(l.Line + "\n")
		if l.Batch != nil {
			refused++
			continue
		}
		if err := store.Write(ctx, lines); err != nil {
			if what, _ := verdict(err); what != Refused {
				return took, refused, fmt.Errorf("replay dead letter %d: %w", seq, err)
			}
			refused++
			continue
		}
		if err := d.stream.DeleteMsg(ctx, seq); err != nil {
			return took, refused, fmt.Errorf("remove dead letter %d: %w", seq, err)
		}
		took++
	}
	return took, refused, nil
}
