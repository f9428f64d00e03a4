package enroll

import (
	"net/netip"
	"sync"
)

// The bounds of bodies that are awaited at once. A device sends its body along with the header, so few are awaited at any
// time, also of a plant behind one address; who sends none holds up the others of its address only.
const (
	addressBodies = 16
	mostBodies    = 1024 // of a node: as many times maxBody is what strangers may have it hold
)

// bodies counts the bodies that are awaited.
type bodies struct {
	mu   sync.Mutex
	all  int
	from map[netip.Addr]int
}

func newBodies() *bodies { return &bodies{from: make(map[netip.Addr]int)} }

// enter takes a place for a body of an address. It says which bound is reached if there is none: errAddressBusy or errBusy.
func (b *bodies) enter(from netip.Addr) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.from[from] >= addressBodies:
		return errAddressBusy
	case b.all >= mostBodies:
		return errBusy
	}
	b.all++
	b.from[from]++
	return nil
}

// leave gives the place back.
func (b *bodies) leave(from netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all--
	if b.from[from]--; b.from[from] == 0 {
		delete(b.from, from)
	}
}
