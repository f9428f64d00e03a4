package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
)

// The bounds of the filters that devices bring along with what they announce.
const (
	maxExtras       = 2 * fleets.MaxPlugs // of one connection: each plug may need two
	maxFilterBytes  = 512
	maxFilterLevels = 32        // some brokers end the connection at 200
	maxStrikes      = 3         // a filter during whose subscription the link was lost so often is taken for the cause
	struckFor       = time.Hour // and is not asked for again for so long
	subscribeCount  = 64        // filters of one SUBSCRIBE, for brokers bound that and the size of a packet
	subscribeBytes  = 16 << 10
)

type extraState uint8

const (
	extraWanted  extraState = iota // to be subscribed to
	extraAsked                     // the broker has not answered yet
	extraGranted                   // on this link
	extraRefused                   // by the broker, or for its strikes
	extraLeaving                   // to be unsubscribed from
)

// extra is one filter.
type extra struct {
	state   extraState
	sent    bool // the broker may hold it: its session outlives the link
	strikes int
	refused time.Time // when
}

// extras are a connection's filters beyond those of its configuration. The worker says which are needed, supervise talks
// to the broker about them. What a stranger announces must not cost the connection: a refused filter is noted and left.
type extras struct {
	changed chan struct{} // capacity 1

	mu       sync.Mutex
	byFilter map[string]*extra // guarded by mu
}

func newExtras() *extras {
	return &extras{changed: make(chan struct{}, 1), byFilter: make(map[string]*extra)}
}

func (e *extras) tell() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// add asks for a filter. It does not block.
func (e *extras) add(filter string, now time.Time) *fleets.Drop {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.byFilter[filter]
	switch {
	case x == nil && len(e.byFilter) >= maxExtras:
		return &fleets.Drop{Reason: reasonManyFilters, Detail: fmt.Sprintf("not subscribed to %q: at most %d of a connection", filter, maxExtras)}
	case x == nil:
		e.byFilter[filter] = &extra{}
	case x.state == extraLeaving, x.state == extraRefused && x.mayAgain(now):
		x.state = extraWanted
	case x.state == extraRefused:
		return &fleets.Drop{Reason: reasonDenied, Detail: fmt.Sprintf("not subscribed to %q: the broker refused it", filter)}
	}
	e.tell()
	return nil
}

func (x *extra) mayAgain(now time.Time) bool {
	if x.strikes >= maxStrikes {
		return now.Sub(x.refused) > struckFor
	}
	return now.Sub(x.refused) > refusedAgain
}

// remove gives a filter up. It does not block.
func (e *extras) remove(filter string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.byFilter[filter]
	switch {
	case x == nil:
	case x.sent && x.state != extraRefused:
		x.state = extraLeaving
		e.tell()
	default:
		delete(e.byFilter, filter)
	}
}

// renew has everything asked for again, over a new link. What the broker only refused may be allowed by now.
func (e *extras) renew(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.byFilter {
		if x.state != extraLeaving && (x.state != extraRefused || x.strikes < maxStrikes || x.mayAgain(now)) {
			x.state = extraWanted
		}
	}
	e.tell()
}

// next returns the filters of the next SUBSCRIBE. One that was being asked for when a link was lost goes alone and after
// all others, so that it is known whether it was the cause.
func (e *extras) next() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list, struck []string
	for filter, x := range e.byFilter {
		switch {
		case len(list) == subscribeCount:
		case x.state == extraWanted && x.strikes == 0:
			list = append(list, filter)
		case x.state == extraWanted && len(struck) == 0:
			struck = append(struck, filter)
		}
	}
	if len(list) == 0 {
		list = struck
	}
	list = list[:fitting(list)]
	for _, filter := range list {
		x := e.byFilter[filter]
		x.state, x.sent = extraAsked, true
	}
	return list
}

// leaving returns the filters of the next UNSUBSCRIBE.
func (e *extras) leaving() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []string
	for filter, x := range e.byFilter {
		if x.state == extraLeaving && len(list) < subscribeCount {
			list = append(list, filter)
		}
	}
	return list[:fitting(list)]
}

// left forgets filters that the broker has let go.
func (e *extras) left(filters []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, filter := range filters {
		switch x := e.byFilter[filter]; {
		case x == nil:
		case x.state == extraLeaving:
			delete(e.byFilter, filter)
		default: // wanted again meanwhile
			x.state, x.sent = extraWanted, false
		}
	}
}

// answered notes what the broker said about filters of next.
func (e *extras) answered(filters, refused []string, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, filter := range filters {
		x := e.byFilter[filter]
		if x == nil || x.state != extraAsked {
			continue
		}
		x.state, x.strikes = extraGranted, 0
		if slices.Contains(refused, filter) {
			x.state, x.sent, x.refused = extraRefused, false, now
		}
	}
}

// strike notes that the link was lost while filters of next were asked for, and returns those that are given up for it.
func (e *extras) strike(filters []string, now time.Time) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var given []string
	for _, filter := range filters {
		x := e.byFilter[filter]
		if x == nil || x.state != extraAsked {
			continue
		}
		if x.strikes++; x.strikes >= maxStrikes {
			x.state, x.sent, x.refused = extraRefused, false, now
			given = append(given, filter)
		}
	}
	return given
}

// fitting is how many of the first of filters one packet holds, at least one if there is one.
func fitting(filters []string) int {
	bytes := 0
	for i, filter := range filters {
		bytes += len(filter) + 3 // its length and its QoS
		if i == subscribeCount || i > 0 && bytes > subscribeBytes {
			return i
		}
	}
	return len(filters)
}

// exchangeExtras tells the broker which further filters are needed, and which no longer. It returns an error if the link
// is lost over it.
func (c *connection) exchangeExtras(ctx context.Context, l *link) error {
	for list := c.extras.next(); len(list) > 0; list = c.extras.next() {
		refused, err := l.subscribe(ctx, list, func(string) byte { return 1 })
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, errStalled) {
				c.refused(c.extras.strike(list, time.Now()), "the connection was lost over it again and again")
			}
			return err
		}
		c.extras.answered(list, refused, time.Now())
		c.refused(refused, "the broker refuses it")
	}
	for list := c.extras.leaving(); len(list) > 0; list = c.extras.leaving() {
		if err := l.unsubscribe(ctx, list); err != nil {
			return err
		}
		c.extras.left(list)
	}
	return nil
}

func (c *connection) refused(filters []string, why string) {
	for _, filter := range filters {
		c.status.fail(fmt.Errorf("not subscribed to %s: %s; what is published there is not read", filter, why))
		c.log.Warn("filter that a device announced is not subscribed to", "filter", filter, "reason", why)
	}
}

// want asks supervise to subscribe to one more filter, unless that would read back what the hub publishes, to this broker
// over whichever connection.
func (c *connection) want(filter string) *fleets.Drop {
	if _, has := c.filters[filter]; has {
		return nil
	}
	if err := checkExtra(filter); err != nil {
		return &fleets.Drop{Reason: reasonFilter, Detail: "not subscribed: " + err.Error()}
	}
	for _, other := range c.sharers {
		for topic, key := range other.published {
			if Overlap(filter, topic) {
				return &fleets.Drop{Reason: reasonReadBack, Detail: fmt.Sprintf(
					"not subscribed to %s: it would read back what the hub publishes (%s of connection %s)", filter, key, other.name)}
			}
		}
	}
	return c.extras.add(filter, time.Now())
}

func checkExtra(filter string) error {
	if err := CheckFilter(filter); err != nil {
		return err
	}
	if n := len(filter); n > maxFilterBytes {
		return fmt.Errorf("%w %.80q: %d bytes, at most %d", errTopic, filter, n, maxFilterBytes)
	}
	if n := strings.Count(filter, "/") + 1; n > maxFilterLevels {
		return fmt.Errorf("%w %.80q: %d levels, at most %d", errTopic, filter, n, maxFilterLevels)
	}
	return nil
}

// checkReadBack refuses a topic that the hub would read back. The topics of the configuration are checked with it; those
// that a device announced are known only when something is published there.
func (c *connection) checkReadBack(topic string) error {
	for _, other := range c.sharers {
		for filter := range other.filters {
			if Matches(filter, topic) {
				return fmt.Errorf("%w %.80q: the hub would read it back by %s of connection %s", errTopic, topic, filter, other.name)
			}
		}
	}
	return nil
}
