package twin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Link writes to the sockets of this node.
type Link interface {
	// SendState writes a desired state to the device's session on this node. It fails if there is none.
	SendState(ctx context.Context, device string, st wire.State) error
}

// Devices knows the device records. It must not block.
type Devices interface {
	Known(device string) bool
}

// Events is the bus for live events.
type Events interface {
	Publish(subject string, data []byte) error
}

// Options are what a Twin is made of.
type Options struct {
	Bucket  jetstream.KeyValue // bus.BucketTwins
	Link    Link
	Devices Devices
	Events  Events
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// State is a device's desired state beside the reported one, and what of desired is not so.
type State struct {
	Desired         json.RawMessage `json:"desired"`
	DesiredVersion  uint64          `json:"desired_version"`
	Reported        json.RawMessage `json:"reported"`
	ReportedVersion uint64          `json:"reported_version"`
	Difference      json.RawMessage `json:"difference"`
}

// Twin keeps the state documents of all devices. It is safe for concurrent use.
type Twin struct {
	// static after New
	link    Link
	devices Devices
	events  Events
	log     *slog.Logger
	metrics *metrics

	docs       *documents
	deliveries *deliveries
	reports    *reports
	removals   *removals
}

// New returns a Twin. It starts nothing: Run does.
func New(o Options) *Twin {
	t := &Twin{
		link: o.Link, devices: o.Devices, events: o.Events, log: o.Log,
		deliveries: newDeliveries(), reports: newReports(), removals: newRemovals(),
	}
	t.docs = newDocuments(o.Bucket, o.Log, t.changed)
	t.metrics = newMetrics(o.Metrics, t.reports.waiting)
	return t
}

// Ready is closed once every document is in memory. Until then State and PatchDesired wait.
func (t *Twin) Ready() <-chan struct{} { return t.docs.ready }

// Run serves until ctx ends, and then stores what devices have reported.
func (t *Twin) Run(ctx context.Context) error {
	var all, writers sync.WaitGroup
	all.Go(func() { t.docs.run(ctx) })
	if t.awaitReady(ctx) == nil {
		t.sweep()
		all.Go(func() { t.deliver(ctx) })
		all.Go(func() { t.remove(ctx) })
		for range reportWriters {
			writers.Go(func() { t.writeReports(ctx) })
		}
	}
	<-ctx.Done()
	writers.Wait()
	all.Wait()
	return t.drainReports()
}

func (t *Twin) isReady() bool {
	select {
	case <-t.docs.ready:
		return true
	default:
		return false
	}
}

func (t *Twin) awaitReady(ctx context.Context) error {
	select {
	case <-t.docs.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("twins are not ready: %w", ctx.Err())
	}
}

// State returns a device's documents. One that was never set is empty and has version 0.
func (t *Twin) State(ctx context.Context, device string) (State, error) {
	if err := t.awaitReady(ctx); err != nil {
		return State{}, err
	}
	if !t.devices.Known(device) {
		return State{}, ErrUnknownDevice
	}
	return t.state(device)
}

func (t *Twin) state(device string) (State, error) {
	p := t.docs.pair(device)
	want, err1 := parseDocument(p.desired.Body)
	have, err2 := parseDocument(p.reported.Body)
	diff, err3 := encode(difference(want, have))
	if err := errors.Join(err1, err2, err3); err != nil {
		return State{}, fmt.Errorf("state of %s: %w", device, err)
	}
	s := State{
		Desired: p.desired.Body, DesiredVersion: p.desired.Version,
		Reported: p.reported.Body, ReportedVersion: p.reported.Version, Difference: diff,
	}
	for _, body := range []*json.RawMessage{&s.Desired, &s.Reported} {
		if len(*body) == 0 {
			*body = json.RawMessage("{}")
		}
	}
	return s, nil
}

// PatchDesired merges patch [RFC7396] into the desired document and returns once that is durable; the device hears of
// it afterwards. With a version it fails with ErrVersionMismatch if the document has another one.
func (t *Twin) PatchDesired(ctx context.Context, device string, patch json.RawMessage, version *uint64) (State, error) {
	s, err := t.patchDesired(ctx, device, patch, version)
	if err != nil {
		t.metrics.refuse(desired, err)
		return State{}, fmt.Errorf("change desired state of %s: %w", device, err)
	}
	return s, nil
}

func (t *Twin) patchDesired(ctx context.Context, device string, patch json.RawMessage, version *uint64) (State, error) {
	p, err := parsePatch(patch)
	if err != nil {
		return State{}, err
	}
	if err := t.awaitReady(ctx); err != nil {
		return State{}, err
	}
	if err := t.expect(ctx, device, version); err != nil {
		return State{}, err
	}
	changed, err := t.change(ctx, change{device: device, half: desired, patch: p, version: version})
	if err != nil {
		return State{}, err
	}
	if changed {
		t.metrics.desiredChanges.Inc()
		t.announce(device)
	}
	return t.state(device)
}

// expect looks into the bucket if the version that the caller has seen is not the one in memory: another node may have
// written it a moment ago.
func (t *Twin) expect(ctx context.Context, device string, version *uint64) error {
	if version == nil || t.docs.half(device, desired).Version == *version {
		return nil
	}
	return t.docs.refresh(ctx, device, desired)
}

// change is one patch of one document.
type change struct {
	device  string
	half    half
	patch   map[string]any
	version *uint64 // nil: any
}

// change applies a patch to the newest document, again if others were faster. It reports whether anything changed.
func (t *Twin) change(ctx context.Context, c change) (bool, error) {
	for try := range conflictTries {
		if !t.devices.Known(c.device) {
			return false, ErrUnknownDevice
		}
		old := t.docs.half(c.device, c.half)
		if c.version != nil && *c.version != old.Version {
			return false, ErrVersionMismatch
		}
		next, changed, err := old.patched(c.patch)
		if err != nil || !changed {
			return false, err
		}
		err = t.docs.put(ctx, c.device, c.half, old, next)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, errStale) {
			return false, err
		}
		t.metrics.conflicts.Inc()
		if err := t.again(ctx, c, try); err != nil {
			return false, err
		}
	}
	return false, ErrConflict
}

// again reads the newer document after a conflict. A replica may still answer with the older one, so later tries wait
// longer.
func (t *Twin) again(ctx context.Context, c change, try int) error {
	if try > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(conflictWait * time.Duration(min(try, 10)))):
		}
	}
	return t.docs.refresh(ctx, c.device, c.half)
}

// patched is the document after a patch, and whether that is another one.
func (d document) patched(patch map[string]any) (document, bool, error) {
	doc, err := parseDocument(d.Body)
	if err != nil {
		return d, false, err
	}
	merged := mergeDocument(doc, patch)
	if equal(doc, merged) {
		return d, false, nil
	}
	body, err := encode(merged)
	if err != nil {
		return d, false, err
	}
	if len(body) > MaxDocument {
		return d, false, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(body), MaxDocument)
	}
	return document{Version: d.Version + 1, Body: body}, true, nil
}

// changed hears that a document in memory is new. Those of the first reading are told to who attaches.
func (t *Twin) changed(device string, h half) {
	if h == desired && t.isReady() {
		t.offer(device, false)
	}
}
