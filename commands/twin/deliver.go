package twin

import (
	"context"
	"sync"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// parcel is what one device is still to be told.
type parcel struct {
	due      bool
	attached bool   // a session is new: it has heard nothing
	sent     uint64 // version that was written last, while the parcel exists
}

// deliveries are the devices that are to be told their desired document: one parcel each, however often it changes.
type deliveries struct {
	wake chan struct{}

	mu      sync.Mutex
	parcels map[string]*parcel // guarded by mu
	waiting []string           // guarded by mu: parcels that nobody carries yet
}

func newDeliveries() *deliveries {
	return &deliveries{wake: make(chan struct{}, 1), parcels: make(map[string]*parcel)}
}

// Attached says that a session of the device has begun on this node: it is told the whole desired document, if there is
// one. It does not block.
func (t *Twin) Attached(device string) {
	if t.isReady() && !t.docs.half(device, desired).exists() {
		return // as with most devices; should one come now, its change is offered
	}
	t.offer(device, true)
}

// offer has the device told its newest desired document.
func (t *Twin) offer(device string, attached bool) {
	d := t.deliveries
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.parcels[device]
	if p == nil {
		p = &parcel{}
		d.parcels[device] = p
		d.waiting = append(d.waiting, device)
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
	p.due, p.attached = true, p.attached || attached
}

// deliver carries parcels, each on its own: a device that does not read delays nobody else. There are never more than
// one for each device with a document.
func (t *Twin) deliver(ctx context.Context) {
	var carriers sync.WaitGroup
	defer carriers.Wait()
	d := t.deliveries
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		}
		d.mu.Lock()
		waiting := d.waiting
		d.waiting = nil
		d.mu.Unlock()
		for _, device := range waiting {
			carriers.Go(func() { t.carry(ctx, device) })
		}
	}
}

// next takes what a parcel is due to say, or ends it.
func (d *deliveries) next(device string) (attached, due bool, sent uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.parcels[device]
	if !p.due {
		delete(d.parcels, device)
		return false, false, 0
	}
	attached, sent = p.attached, p.sent
	p.due, p.attached = false, false
	return attached, true, sent
}

// carry writes the newest document to the device until nothing newer is due.
func (t *Twin) carry(ctx context.Context, device string) {
	d := t.deliveries
	for {
		attached, due, sent := d.next(device)
		if !due {
			return
		}
		doc := t.docs.half(device, desired)
		if !doc.exists() || !attached && doc.Version <= sent {
			continue
		}
		if t.send(ctx, device, doc) == nil {
			d.mu.Lock()
			d.parcels[device].sent = doc.Version
			d.mu.Unlock()
		}
	}
}

// send writes one document. A device that cannot be reached hears it when it attaches.
func (t *Twin) send(ctx context.Context, device string, doc document) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	err := t.link.SendState(ctx, device, wire.State{Desired: doc.Body, Version: doc.Version})
	if err != nil {
		t.metrics.deliveries.WithLabelValues(outcomeUnreached).Inc()
		t.log.Debug("desired state not written", "device_id", device, "version", doc.Version, "err", err)
		return err
	}
	t.metrics.deliveries.WithLabelValues(outcomeWritten).Inc()
	return nil
}
