package api

import "context"

// Route is one call, for the tests that hold all of them against something.
type Route struct {
	Name, Method, Path string
	Need               Role
	Open, Change       bool
	Query              []string
}

// Routes lists the calls of a.
func (a *API) Routes() []Route {
	var out []Route
	for _, e := range a.endpoints {
		out = append(out, Route{e.name, e.method, root + e.path, e.need, e.scope == open, e.change != "", e.query})
	}
	return out
}

// The bounds that tests overstep.
const (
	MaxBody          = maxBody
	MaxStrangers     = maxStrangers
	AddressStrangers = addressStrangers
	OperatorInFlight = operatorInFlight
	OperatorWaits    = operatorWaits
	OperatorViewers  = operatorViewers
	OperatorRefused  = operatorRefused
	StrangerRefused  = strangerRefused
	RefusedEvery     = refusedEvery
)

// TellOmitted is what Run does now and then.
func (a *API) TellOmitted(ctx context.Context) { a.tellOmitted(ctx) }
