package api

import (
	"context"
	"net/http"
)

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

// LiveAfter serves the live socket, with between called after the caller is let in and before the view opens.
func (a *API) LiveAfter(between func()) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{Request: r, w: w}
		var err error
		if c.who, err = a.identify(c); err == nil {
			between()
			_, err = a.live.open(c)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
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
