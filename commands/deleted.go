package commands

// deletedBy and deletedDetail say of a cancel that it follows from the deletion of the device.
const (
	deletedBy     = "hub"
	deletedDetail = "the device was deleted"
)

// Deleted takes back what waits for a device whose record was deleted: who gets its id next is another device, and nobody
// asked that one for anything. What a session has in hand ends by its answer or its time. It does not block.
func (r *Router) Deleted(device string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started { // else serve looks at all devices
		r.takeBackLocked(device)
	}
}

// takeBackLocked cancels a device's commands. Of several nodes the one that made a command does it: that one has seen the
// record come and go before, so it cannot mistake a command for the next device of the id.
func (r *Router) takeBackLocked(device string) {
	p := r.pipes[device]
	if p == nil {
		return
	}
	for _, t := range p.open {
		if t.gone || t.node != r.node && !r.alone {
			continue
		}
		e := r.entry(cancel, t.id)
		e.Actor, e.Detail, e.Gone = deletedBy, deletedDetail, true
		if err := r.propose(&proposal{device: device, entry: e}, true); err != nil {
			r.log.Warn("command of a deleted device not taken back", "device_id", device, "command", t.id, "err", err)
		}
	}
}

// takeBackDeletedLocked looks for devices that were deleted while this node did not run.
func (r *Router) takeBackDeletedLocked() {
	for device := range r.pipes {
		if !r.devices.Known(device) {
			r.takeBackLocked(device)
		}
	}
}
