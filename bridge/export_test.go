package bridge

import (
	"time"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
)

// MaxExtras, StruckFor and Strikes are bounds that tests go to.
const (
	MaxExtras = maxExtras
	StruckFor = struckFor
	Strikes   = maxStrikes
)

// Extras are the further filters of a connection, without one.
type Extras struct{ e *extras }

// NewExtras returns none.
func NewExtras() Extras { return Extras{newExtras()} }

// Add and the others are those of extras.
func (x Extras) Add(filter string, now time.Time) *fleets.Drop { return x.e.add(filter, now) }

// Remove gives a filter up.
func (x Extras) Remove(filter string) { x.e.remove(filter) }

// Renew is a new link.
func (x Extras) Renew(now time.Time) { x.e.renew(now) }

// Next are those of the next SUBSCRIBE.
func (x Extras) Next() []string { return x.e.next() }

// Leaving are those of the next UNSUBSCRIBE.
func (x Extras) Leaving() []string { return x.e.leaving() }

// Answered is the broker's answer.
func (x Extras) Answered(filters, refused []string, now time.Time) {
	x.e.answered(filters, refused, now)
}

// Strike is the loss of the link.
func (x Extras) Strike(filters []string, now time.Time) []string { return x.e.strike(filters, now) }
