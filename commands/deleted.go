package commands

import (
	"errors"
	"fmt"
)

// deletedBy and deletedDetail say of a cancel that it follows from the deletion of the device.
const (
	deletedBy     = "hub"
	deletedDetail = "the device was deleted"
)

// Deleted takes back what waits for a device whose record was deleted: who gets its id next is another device, and nobody
// asked that one for anything. What a session has in hand ends by its answer or its time. It does not block.
func (r *Router) Deleted(device string) {
	r.mu.Lock()
	var err error
	if r.started { // else serve looks at all devices
		err = r.takeBackLocked(device)
	}
	r.mu.Unlock()
	r.notTakenBack(err)
}

// notTakenBack tells that commands wait on, since too much is on its way into the log.
func (r *Router) notTakenBack(err error) {
	if err != nil {
		r.log.Error("commands of a deleted device wait on; cancel them before its id is given anew", "err", err)
	}
}

// takeBackLocked cancels a device's commands. Of several nodes the one that made a command does it: that one has seen the
// record come and go before, so it cannot mistake a command for the next device of the id.
func (r *Router) takeBackLocked(device string) error {
	p := r.pipes[device]
	if p == nil {
		return nil
	}
	var errs []error
	for _, t := range p.open {
		if t.gone || t.node != r.node && !r.alone {
			continue
		}
		e := r.entry(cancel, t.id)
		e.Actor, e.Detail, e.Gone = deletedBy, deletedDetail, true
		if err := r.propose(&proposal{device: device, entry: e}, true); err != nil {
			errs = append(errs, fmt.Errorf("command %s to %s: %w", t.id, device, err))
		}
	}
	return errors.Join(errs...)
}

// takeBackDeletedLocked looks for devices that were deleted while this node did not run.
func (r *Router) takeBackDeletedLocked() error {
	var errs []error
	for device := range r.pipes {
		if !r.devices.Known(device) {
			errs = append(errs, r.takeBackLocked(device))
		}
	}
	return errors.Join(errs...)
}
