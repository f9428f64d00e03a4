package devices

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// The bounds of one batch of records. A batch is synced once.
const (
	importBatch = 500
	importBytes = 4 << 20
	// importSingles records are cheaper one by one: a batch costs files of its own.
	importSingles = 4
)

// Import is one record to be made or changed.
type Import struct {
	ID string
	// Apply fills in the record, which is empty but for its id if made is true.
	Apply func(r *Record, made bool) error
}

// Imported is what became of an Import: at most one of the two is true.
type Imported struct {
	Made, Changed bool
	Err           error
}

// Importer writes many records with few syncs.
type Importer struct {
	records *Records
	js      jetstream.JetStream
}

// NewImporter returns an importer into records.
func NewImporter(r *Records, js jetstream.JetStream) *Importer { return &Importer{records: r, js: js} }

// pending is a record on its way, and where its outcome goes.
type pending struct {
	rec  *Record
	old  *Record // nil: none
	in   *Import
	out  *Imported
	data []byte
}

// Import makes and changes records, and returns what became of each. One that is as it should be is not written; one that
// cannot be does not stop the others.
func (m *Importer) Import(ctx context.Context, all []Import) []Imported {
	out := make([]Imported, len(all))
	var batch []*pending
	size, seen := 0, make(map[string]struct{}, len(all))
	flush := func() {
		m.write(ctx, batch)
		batch, size = batch[:0], 0
		clear(seen)
	}
	for i := range all {
		if _, twice := seen[all[i].ID]; twice {
			flush() // the later one builds upon the earlier
		}
		p, err := m.records.plan(&all[i])
		if err != nil || p == nil {
			out[i].Err = err
			continue
		}
		p.out = &out[i]
		if len(batch) == importBatch || size+len(p.data) > importBytes {
			flush()
		}
		batch, size = append(batch, p), size+len(p.data)
		seen[p.rec.ID] = struct{}{}
	}
	flush()
	return out
}

// plan makes the record as it should be; nil says that it is already.
func (r *Records) plan(in *Import) (*pending, error) {
	old, ok := r.Record(in.ID)
	rec := &Record{ID: in.ID}
	if ok {
		rec = old.Clone()
	}
	if err := in.Apply(rec, !ok); err != nil {
		return nil, err
	}
	rec.ID = in.ID
	if !ok {
		rec.born(time.Now())
	}
	if err := errors.Join(rec.check(), rec.prepare(old)); err != nil {
		return nil, err
	}
	data, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("encode device: %w", err)
	}
	if ok {
		was, err := json.Marshal(old)
		if err != nil {
			return nil, fmt.Errorf("encode device: %w", err)
		}
		if bytes.Equal(was, data) {
			return nil, nil
		}
	}
	return &pending{rec: rec, old: old, in: in, data: data}, nil
}

// write stores a batch, in one if that works, else one by one: then each is refused for itself.
func (m *Importer) write(ctx context.Context, batch []*pending) {
	if len(batch) > importSingles && m.writeBatch(ctx, batch) {
		return
	}
	for _, p := range batch {
		m.single(ctx, p)
	}
}

func (m *Importer) writeBatch(ctx context.Context, batch []*pending) bool {
	msgs := make([]*nats.Msg, len(batch))
	for i, p := range batch {
		last := uint64(0)
		if p.old != nil {
			last = p.old.Revision
		}
		msgs[i] = &nats.Msg{Subject: "$KV." + bus.BucketDevices + "." + p.rec.key(), Data: p.data, Header: nats.Header{
			jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(last, 10)},
		}}
	}
	ack, err := jetstreamext.PublishMsgBatch(ctx, m.js, msgs, jetstreamext.BatchFlowControl{})
	if err != nil {
		m.records.log.Debug("records not written as a batch", "records", len(batch), "err", err)
		return false
	}
	for i, p := range batch {
		p.rec.Revision = ack.Sequence - uint64(len(batch)-1-i)
		m.records.store(p.rec.ID, p.rec, p.rec.Revision)
		p.done()
	}
	return true
}

// single writes one record, on top of what others have made of it meanwhile.
func (m *Importer) single(ctx context.Context, p *pending) {
	apply := func(r *Record) (bool, error) { return true, p.in.Apply(r, false) }
	var err error
	if p.old == nil {
		_, err = m.records.Create(ctx, p.rec)
		if errors.Is(err, ErrExists) {
			if _, err = m.records.Refresh(ctx, p.rec.ID); err == nil {
				p.old = p.rec
				_, err = m.records.Update(ctx, p.rec.ID, 0, apply)
			}
		}
	} else {
		_, err = m.records.Update(ctx, p.rec.ID, 0, apply)
	}
	if err != nil {
		p.out.Err = err
		return
	}
	p.done()
}

func (p *pending) done() { p.out.Made, p.out.Changed = p.old == nil, p.old != nil }
