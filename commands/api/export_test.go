package api

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

// MaxBody is the bound that tests overstep.
const MaxBody = maxBody
