package api

import (
	"net/netip"
	"sync"
)

// How much the API has in hand at once, of all callers and of each. Requests of callers who are not known yet have places
// of their own, so that strangers take none from operators, and no operator takes all from the others.
const (
	maxStrangers     = 256 // sign-ins, until they are answered: their bodies may take bodyTimeout to come
	addressStrangers = 16

	maxInFlight      = 4096 // requests of operators
	operatorInFlight = 1024

	maxWaits      = 4096 // requests that wait for a command to end
	operatorWaits = 1024

	maxViewers      = 256
	operatorViewers = 32

	// ipv6Host is how much of an IPv6 address names a site: whoever has one address has all of its network.
	ipv6Host = 64
)

// places bounds how many are there at once: all together, and of each.
type places struct {
	// static after newPlaces
	all, each          int
	allTaken, eachHere error // why somebody gets none

	mu    sync.Mutex
	taken int            // guarded by mu
	of    map[string]int // guarded by mu
}

func newPlaces(all, each int, allTaken, eachHere error) *places {
	return &places{all: all, each: each, allTaken: allTaken, eachHere: eachHere, of: map[string]int{}}
}

// place is one that is held. The zero place is none.
type place struct {
	in  *places
	who string
}

// enter gives who a place, or says why there is none.
func (p *places) enter(who string) (place, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.of[who] >= p.each:
		return place{}, p.eachHere
	case p.taken >= p.all:
		return place{}, p.allTaken
	}
	p.taken++
	p.of[who]++
	return place{p, who}, nil
}

// leave gives the place back. Once it is none, nothing happens.
func (h *place) leave() {
	p := h.in
	if p == nil {
		return
	}
	h.in = nil
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	if p.of[h.who]--; p.of[h.who] == 0 {
		delete(p.of, h.who)
	}
}

// enter takes a place for who into h, or refuses the request.
func (a *API) enter(h *place, p *places, who string) (err error) {
	if *h, err = p.enter(who); err != nil {
		doc, _ := toProblem(err)
		return a.refused(doc.Code, err)
	}
	return nil
}

// network is whom the bound of an address counts for: the caller's address, of IPv6 its network.
func network(remote string) string {
	a, err := netip.ParseAddr(remote)
	if err != nil {
		return remote
	}
	if a = a.Unmap().WithZone(""); !a.Is6() {
		return a.String()
	}
	p, err := a.Prefix(ipv6Host)
	if err != nil {
		return remote
	}
	return p.String()
}
