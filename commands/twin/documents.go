package twin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// half is one of a device's two documents; it is the first part of the document's key.
type half string

const (
	desired  half = "desired"
	reported half = "reported"
)

// document is one document as it is stored and kept in memory. Without a body it was deleted with its device; its
// version stays.
type document struct {
	Version uint64          `json:"version"`
	Body    json.RawMessage `json:"document,omitempty"`

	revision uint64 // in the bucket; 0: not there
}

func (d document) exists() bool { return len(d.Body) > 0 }

// pair is what is known of one device.
type pair struct{ desired, reported document }

func (p *pair) half(h half) *document {
	if h == desired {
		return &p.desired
	}
	return &p.reported
}

// documents are all documents of all devices: a bucket that is watched into memory.
type documents struct {
	// static after newDocuments
	kv      jetstream.KeyValue
	log     *slog.Logger
	ready   chan struct{}
	changed func(device string, h half) // must not block

	once sync.Once

	mu  sync.RWMutex
	all map[string]pair // guarded by mu
}

func newDocuments(kv jetstream.KeyValue, log *slog.Logger, changed func(string, half)) *documents {
	return &documents{kv: kv, log: log, ready: make(chan struct{}), changed: changed, all: make(map[string]pair)}
}

func key(device string, h half) (string, error) {
	k, err := bus.DeviceKey(device)
	return string(h) + "." + k, err
}

// run watches the bucket until ctx ends.
func (d *documents) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := d.watch(ctx); err != nil && ctx.Err() == nil {
			d.log.Warn("twins: watch ended, trying again", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(rewatchWait):
		}
	}
}

func (d *documents) watch(ctx context.Context) error {
	w, err := d.kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch twins: %w", err)
	}
	defer func() { _ = w.Stop() }() // its connection may be gone
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return errors.New("watch twins: closed")
			case e == nil:
				d.once.Do(func() { close(d.ready) })
			default:
				d.take(e)
			}
		}
	}
}

// take puts an entry of the bucket into memory.
func (d *documents) take(e jetstream.KeyValueEntry) {
	h, rest, _ := strings.Cut(e.Key(), ".")
	device, err := bus.KeyDevice(rest)
	if err != nil || half(h) != desired && half(h) != reported {
		d.log.Warn("twins: not a document", "key", e.Key())
		return
	}
	doc := document{}
	if e.Operation() == jetstream.KeyValuePut {
		err := json.Unmarshal(e.Value(), &doc)
		if err == nil {
			_, err = parseDocument(doc.Body)
		}
		if err != nil {
			d.log.Error("twins: unreadable document", "device_id", device, "document", h, "err", err)
			return
		}
	}
	doc.revision = e.Revision()
	d.store(device, half(h), doc)
}

// store puts a document into memory unless memory is newer, and tells of the change.
func (d *documents) store(device string, h half, doc document) {
	d.mu.Lock()
	p := d.all[device]
	at := p.half(h)
	if at.revision >= doc.revision {
		d.mu.Unlock()
		return
	}
	*at = doc
	d.all[device] = p
	d.mu.Unlock()
	d.changed(device, h)
}

func (d *documents) pair(device string) pair {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.all[device]
}

func (d *documents) half(device string, h half) document {
	p := d.pair(device)
	return *p.half(h)
}

// devices lists those that have a document.
func (d *documents) devices() []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var ids []string
	for id, p := range d.all {
		if p.desired.exists() || p.reported.exists() {
			ids = append(ids, id)
		}
	}
	return ids
}

// refresh reads one document from the bucket instead of waiting for the watch.
func (d *documents) refresh(ctx context.Context, device string, h half) error {
	k, err := key(device, h)
	if err != nil {
		return err
	}
	e, err := d.kv.Get(ctx, k)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		d.lose(device, h)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read twin of %s: %w", device, err)
	}
	d.take(e)
	return nil
}

// lose drops a document that somebody removed from the bucket by hand; nothing of the hub does.
func (d *documents) lose(device string, h half) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p, ok := d.all[device]; ok {
		*p.half(h) = document{}
		d.all[device] = p
	}
}

// errStale says that the document was changed meanwhile.
var errStale = errors.New("document has another revision")

// put stores next in place of old and returns once it is durable. It fails with errStale if the bucket holds something
// newer than old.
func (d *documents) put(ctx context.Context, device string, h half, old, next document) error {
	k, err := key(device, h)
	if err != nil {
		return err
	}
	value, err := encode(next)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	next.revision, err = d.kv.Update(ctx, k, value, old.revision)
	switch {
	case err == nil:
		d.store(device, h, next)
		return nil
	case errors.Is(err, jetstream.ErrKeyRevisionMismatch):
		return errStale
	case bus.IsFull(err):
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return fmt.Errorf("store twin of %s: %w", device, err)
}
