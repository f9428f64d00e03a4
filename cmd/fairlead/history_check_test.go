package main_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// lived is a command as the API shows it, with its whole life.
type lived struct {
	ID, Device, State, Actor string
	Late                     bool
	Created, Expires         int64
	NotBefore                int64 `json:"not_before"`
	Priority, Attempt        int
	Retry                    *struct{ Attempts int }
	Params                   struct{ N int }
	Error                    *struct{ Code string }
	Events                   []struct{ State, Node, Session, Detail string }
}

// asked is one request of an operator.
type asked struct {
	device string
	keyed  bool
	sent   int      // times; without a key each may have made a command
	ids    []string // that operators were given
}

// arrival is a frame that a device received, deed one that it acted on.
type (
	arrival struct {
		id string // of the try
		n  int
	}
	deed struct {
		id string
		at int64
	}
)

// saying is the result that a device gave, once and for all.
type saying struct {
	ok   bool
	code string
}

// history is what everybody saw of a run, kept outside of the hubs: what operators asked and were told, what devices
// received, did and said, and in the end every command as the hub shows it.
type history struct {
	mu       sync.Mutex
	asked    map[int]*asked
	told     map[string][]string // final states that operators were told of a command
	arrivals map[string][]arrival
	deeds    map[string][]deed
	said     map[string]saying // by the id of the try
	acked    map[string]bool
	commands map[string]lived
	refusals map[string]int
}

func newHistory() *history {
	return &history{
		asked: make(map[int]*asked), told: make(map[string][]string), arrivals: make(map[string][]arrival),
		deeds: make(map[string][]deed), said: make(map[string]saying), acked: make(map[string]bool),
		commands: make(map[string]lived), refusals: make(map[string]int),
	}
}

// The kinds of faults.
const (
	lost    = "lost"
	double  = "double"
	illegal = "illegal"
)

type flaw struct{ kind, text string }

// verdict is what a check found.
type verdict struct {
	faults            []flaw
	finals            map[string]int
	acted, redelivery int
	late              int
}

func (v *verdict) count(kind string) (n int) {
	for _, f := range v.faults {
		if f.kind == kind {
			n++
		}
	}
	return n
}

func (v *verdict) add(kind, format string, args ...any) {
	v.faults = append(v.faults, flaw{kind, fmt.Sprintf(format, args...)})
}

// mayFollow is which state may come right after which.
var mayFollow = map[string]string{
	"queued":    "queued sent delivered running succeeded failed rejected expired timed_out cancelled",
	"sent":      "sent delivered running succeeded failed rejected timed_out cancelled",
	"delivered": "delivered running succeeded failed rejected timed_out cancelled",
	"running":   "running succeeded failed rejected timed_out cancelled",
	"timed_out": "succeeded failed",
}

const finalStates = "succeeded failed rejected expired timed_out cancelled"

func among(state, list string) bool { return slices.Contains(strings.Fields(list), state) }

// check holds all that was seen against what must hold.
func (h *history) check() *verdict {
	v := &verdict{finals: make(map[string]int)}
	for _, c := range h.commands {
		v.finals[c.State]++
		if c.Late {
			v.late++
		}
		h.checkLife(v, c)
		h.checkTold(v, c)
		h.checkDevice(v, c)
	}
	h.checkAsked(v)
	for device := range h.arrivals {
		h.checkArrivals(v, device)
		h.checkOrder(v, device)
	}
	return v
}

// checkLife: the steps are legal, and the final state is one.
func (h *history) checkLife(v *verdict, c lived) {
	if len(c.Events) == 0 || c.Events[0].State != "queued" {
		v.add(illegal, "%s does not begin as queued", c.ID)
		return
	}
	ends := 0
	for i, e := range c.Events {
		if among(e.State, finalStates) && e.State != "timed_out" {
			ends++
		}
		if i == 0 {
			continue
		}
		before := c.Events[i-1].State
		again := c.Retry != nil && e.State == "queued" && among(before, "sent delivered running")
		if !again && !among(e.State, mayFollow[before]) {
			v.add(illegal, "%s: %s after %s", c.ID, e.State, before)
		}
		if before == "timed_out" && !c.Late {
			v.add(illegal, "%s: answered after it timed out, and not late", c.ID)
		}
	}
	last := c.Events[len(c.Events)-1].State
	if !among(c.State, finalStates) || last != c.State || ends > 1 {
		v.add(illegal, "%s: state %s, last event %s, %d ends", c.ID, c.State, last, ends)
	}
}

// checkTold: what an operator was told stays so; only timed_out may still become the device's own late word.
func (h *history) checkTold(v *verdict, c lived) {
	for _, s := range h.told[c.ID] {
		if s != c.State && (s != "timed_out" || !c.Late) {
			v.add(illegal, "%s: an operator was told %s, it is %s", c.ID, s, c.State)
		}
	}
}

// tries are the ids by which the device may know a command.
func (c lived) tries() []string {
	ids := []string{c.ID}
	if c.Retry != nil {
		for n := 2; n <= c.Retry.Attempts; n++ {
			ids = append(ids, fmt.Sprintf("%s-%d", c.ID, n))
		}
	}
	return ids
}

// outcomes are the states that a device's word leads to: on time, and after a time-out.
func (s saying) outcomes() (onTime, late string) {
	switch {
	case s.ok:
		return "succeeded", "succeeded"
	case s.code == "rejected":
		return "rejected", "failed"
	case s.code == "cancelled":
		return "cancelled", "failed"
	}
	return "failed", "failed"
}

// checkDevice: the hub says of a command what the device says.
func (h *history) checkDevice(v *verdict, c lived) {
	received, words := 0, map[string]bool{}
	for _, id := range c.tries() {
		for _, a := range h.arrivals[c.Device] {
			if a.id == id {
				received++
			}
		}
		if s, ok := h.said[id]; ok {
			onTime, late := s.outcomes()
			words[onTime] = true
			if c.Late {
				words[late] = true
			}
		}
	}
	switch c.State {
	case "expired":
		if received > 0 {
			v.add(illegal, "%s expired, and the device received it", c.ID)
		}
	case "cancelled":
		if received > 0 && !words["cancelled"] {
			v.add(illegal, "%s was taken back, and the device received it", c.ID)
		}
	case "succeeded", "failed", "rejected":
		if !words[c.State] {
			v.add(illegal, "%s %s, and the device never said so", c.ID, c.State)
		}
	}
	if s, ok := h.said[c.ID]; ok && h.acked[c.ID] && c.Retry == nil {
		want, late := s.outcomes()
		if c.Late {
			want = late
		}
		if c.State != want {
			v.add(illegal, "%s: the device said %+v and was told that this is recorded; it is %s", c.ID, s, c.State)
		}
	}
}

// checkAsked: no command is lost, and none made twice.
func (h *history) checkAsked(v *verdict) {
	made := make(map[int][]string)
	for id, c := range h.commands {
		made[c.Params.N] = append(made[c.Params.N], id)
		if a := h.asked[c.Params.N]; a == nil || a.device != c.Device {
			v.add(illegal, "%s: nobody asked for it", id)
		}
	}
	for n, a := range h.asked {
		for _, id := range a.ids {
			if c, ok := h.commands[id]; !ok || c.Params.N != n {
				v.add(lost, "%s is lost", id)
			}
			if a.keyed && id != a.ids[0] {
				v.add(double, "request %d: one key, and commands %s and %s", n, a.ids[0], id)
			}
		}
		most := a.sent
		if a.keyed {
			most = 1
		}
		if len(made[n]) > most {
			v.add(double, "request %d became %d commands, at most %d asked for", n, len(made[n]), most)
		}
	}
}

// checkArrivals: devices receive what was asked for, act on each id once, and their results are recorded.
func (h *history) checkArrivals(v *verdict, device string) {
	for _, a := range h.arrivals[device] {
		c, ok := h.commands[baseOf(a.id)]
		if !ok || c.Device != device || c.Params.N != a.n || !slices.Contains(c.tries(), a.id) {
			v.add(illegal, "%s received %s (request %d), which is no command for it", device, a.id, a.n)
		}
	}
	times := make(map[string]int)
	for _, d := range h.deeds[device] {
		if times[d.id]++; times[d.id] == 2 {
			v.add(double, "%s acted twice on %s", device, d.id)
		}
		if c := h.commands[baseOf(d.id)]; d.at < c.NotBefore {
			v.add(illegal, "%s acted on %s %d ms before its hour", device, d.id, c.NotBefore-d.at)
		}
		if _, ok := h.said[d.id]; ok && !h.acked[d.id] {
			v.add(lost, "%s: the result of %s is never confirmed", device, d.id)
		}
	}
	v.acted += len(times)
	v.redelivery += len(h.arrivals[device]) - len(times)
}

// checkOrder: of one priority, first tries come in the order in which the commands were made.
func (h *history) checkOrder(v *verdict, device string) {
	last := make(map[int]string)
	for _, d := range h.deeds[device] {
		c := h.commands[baseOf(d.id)]
		if c.NotBefore > 0 || d.id != c.ID {
			continue
		}
		if before := last[c.Priority]; before != "" && placeOf(before, c.ID) > 0 {
			v.add(illegal, "%s acted on %s before %s", device, before, c.ID)
		}
		last[c.Priority] = c.ID
	}
}

// baseOf is the command that a try's id belongs to.
func baseOf(id string) string {
	parts := strings.Split(id, "-")
	return strings.Join(parts[:min(2, len(parts))], "-")
}

// placeOf compares the places of two commands in the log, with which their ids begin: digits in the order of ASCII.
func placeOf(a, b string) int {
	a, _, _ = strings.Cut(a, "-")
	b, _, _ = strings.Cut(b, "-")
	return cmp.Or(len(a)-len(b), strings.Compare(a, b))
}
