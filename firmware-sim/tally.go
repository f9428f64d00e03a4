package sim

import (
	"fmt"
	"sync/atomic"
)

// Counters counts what devices do; many devices share one. Points unless the name says otherwise.
type Counters struct {
	made, sent, acked, rejected, dropped, resent      atomic.Uint64
	connected, reconnects, refused, stopped, commands atomic.Uint64
	repeats                                           atomic.Uint64
}

// Tally is a reading of Counters. Made = Acked + Rejected + Dropped + Unacked once the devices are at rest.
type Tally struct {
	Devices    int
	Made       uint64 // points taken from the sensors
	Sent       uint64 // points sent at least once
	Acked      uint64 // points the hub acked
	Rejected   uint64 // points in frames the hub rejected
	Dropped    uint64 // points lost to a full buffer, or too big for a frame
	Unacked    uint64 // points still held: sent without an ack, or not sent
	Resent     uint64 // points sent again, each time counted
	Connected  uint64 // sessions that got a welcome
	Reconnects uint64 // sessions after a device's first
	Refused    uint64 // attempts to connect that the hub answered with a problem
	Stopped    uint64 // devices that must not come back
	Commands   uint64 // distinct commands taken
	Repeats    uint64 // commands that came again
}

// Tally reads the counters.
func (c *Counters) Tally() Tally {
	// Settled counts are read before what they are taken from, so that Unacked is never below zero.
	t := Tally{Acked: c.acked.Load(), Rejected: c.rejected.Load(), Dropped: c.dropped.Load()}
	t.Made, t.Sent, t.Resent = c.made.Load(), c.sent.Load(), c.resent.Load()
	t.Unacked = t.Made - t.Acked - t.Rejected - t.Dropped
	t.Connected, t.Reconnects, t.Refused = c.connected.Load(), c.reconnects.Load(), c.refused.Load()
	t.Stopped, t.Commands, t.Repeats = c.stopped.Load(), c.commands.Load(), c.repeats.Load()
	return t
}

// String is the one-line summary.
func (t Tally) String() string {
	return fmt.Sprintf("devices=%d sent=%d acked=%d unacked=%d rejected=%d resent=%d reconnects=%d commands=%d "+
		"repeated_commands=%d dropped=%d refused=%d stopped=%d",
		t.Devices, t.Sent, t.Acked, t.Unacked, t.Rejected, t.Resent, t.Reconnects, t.Commands,
		t.Repeats, t.Dropped, t.Refused, t.Stopped)
}
