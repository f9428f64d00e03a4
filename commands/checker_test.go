package commands_test

import (
	"fmt"
	"slices"

	"github.com/fairlead-hub/fairlead/commands"
)

// history is what everybody saw of a run: the hub's commands at the end, what operators were told on the way, and what
// devices did.
type history struct {
	commands map[string]commands.Command
	made     []string                    // ids that operators were given
	told     map[string][]commands.State // final states that operators were told, in order
	acted    map[string][]string         // per device: ids in the order it acted, once for each time
	answered map[string]map[string]bool  // per device: results it gave
}

// follows is which state may come right after which.
var follows = map[commands.State][]commands.State{
	commands.Queued: {
		commands.Queued, commands.Sent, commands.Delivered, commands.Running, commands.Succeeded, commands.Failed,
		commands.Rejected, commands.Expired, commands.TimedOut, commands.Cancelled,
	},
	commands.Sent: {
		commands.Sent, commands.Delivered, commands.Running, commands.Succeeded, commands.Failed, commands.Rejected,
		commands.TimedOut, commands.Cancelled,
	},
	commands.Delivered: {
		commands.Delivered, commands.Running, commands.Succeeded, commands.Failed, commands.Rejected, commands.TimedOut,
		commands.Cancelled,
	},
	commands.Running:  {commands.Running, commands.Succeeded, commands.Failed, commands.Rejected, commands.TimedOut, commands.Cancelled},
	commands.TimedOut: {commands.Succeeded, commands.Failed},
}

// check returns what is wrong with a history.
func (h *history) check() (faults []string) {
	fault := func(f string, args ...any) { faults = append(faults, fmt.Sprintf(f, args...)) }
	for _, id := range h.made {
		if _, ok := h.commands[id]; !ok {
			fault("%s is lost", id)
		}
	}
	for id, c := range h.commands {
		for _, f := range checkEvents(c) {
			fault("%s: %s", id, f)
		}
		times := 0
		for _, a := range h.acted[c.Device] {
			if a == id {
				times++
			}
		}
		ok, answered := h.answered[c.Device][id]
		switch {
		case times > 1:
			fault("%s: acted on %d times", id, times)
		case times > 0 && c.State == commands.Expired:
			fault("%s: expired, and the device acted on it", id)
		case times > 0 && c.State == commands.Cancelled && c.Error == nil:
			fault("%s: taken back, and the device acted on it", id)
		case c.State == commands.Succeeded && !(answered && ok), c.State == commands.Failed && (!answered || ok):
			fault("%s: %s, and the device never said so", id, c.State)
		}
		for _, s := range h.told[id] {
			if s != c.State && s != commands.TimedOut {
				fault("%s: an operator was told %s, it is %s", id, s, c.State)
			}
		}
	}
	for device, ids := range h.acted {
		if !slices.IsSortedFunc(ids, func(a, b string) int { return place(a) - place(b) }) {
			fault("%s: acted out of order: %v", device, ids)
		}
	}
	return faults
}

func checkEvents(c commands.Command) (faults []string) {
	if len(c.Events) == 0 || c.Events[0].State != commands.Queued {
		return []string{"does not begin as queued"}
	}
	finals := 0
	for i, e := range c.Events {
		if e.State.Final() && e.State != commands.TimedOut {
			finals++
		}
		again := c.Retry != nil && e.State == commands.Queued && !c.Events[i-min(i, 1)].State.Final()
		if i > 0 && !again && !slices.Contains(follows[c.Events[i-1].State], e.State) {
			faults = append(faults, fmt.Sprintf("%s after %s", e.State, c.Events[i-1].State))
		}
	}
	last := c.Events[len(c.Events)-1].State
	switch {
	case finals > 1:
		faults = append(faults, fmt.Sprintf("%d final states", finals))
	case !c.State.Final():
		faults = append(faults, "no final state: "+string(c.State))
	case last != c.State:
		faults = append(faults, fmt.Sprintf("state %s, last event %s", c.State, last))
	}
	return faults
}

// place is where a command stands in the log.
func place(id string) int {
	seq, _, _ := commands.ParseID(id)
	return int(seq)
}
