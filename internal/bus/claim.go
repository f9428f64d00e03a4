package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// claimKey is the lease of a node's name. What it holds is the identity of the hub's data directory and, after a space,
// that of its run.
const claimKey = "node." // + node

// claimLook is how often a hub that waits for a name looks whether it is free.
const claimLook = 250 * time.Millisecond

// ErrNameInUse says that another hub has this node's name.
var ErrNameInUse = errors.New("in use by another hub")

// Claim is this node's name, held for this process alone: nodes of one name would take each other's devices for their own.
type Claim struct {
	bus   *Bus
	kv    jetstream.KeyValue
	key   string
	value string
	rev   uint64 // owned by Claim, then by Run, then by Release
}

// Claim takes this node's name. identity tells the hub's data directory from others: who finds the claim of an earlier run on
// the same one, which has ended, takes it over at once. Of any other it waits to see whether that hub still renews it, which is
// ErrNameInUse, or is dead; that takes leaseTTL at most.
func (b *Bus) Claim(ctx context.Context, identity string) (*Claim, error) {
	node, err := DeviceKey(b.opts.Node)
	if err != nil {
		return nil, fmt.Errorf("node name: %w", err)
	}
	kv, err := b.Bucket(ctx, BucketLeases)
	if err != nil {
		return nil, err
	}
	c := &Claim{bus: b, kv: kv, key: claimKey + node, value: identity + " " + rand.Text()}
	for seen := uint64(0); ; {
		other, err := c.take(ctx)
		switch {
		case err != nil:
			return nil, fmt.Errorf("claim node name %s: %w", b.opts.Node, err)
		case other == 0:
			return c, nil
		case seen == 0:
			seen = other
			b.opts.Log.Warn("another hub had this node's name and may be dead; waiting until its claim runs out", "node", b.opts.Node, "at_most", leaseTTL)
		case seen != other:
			return nil, fmt.Errorf("node name %s is %w; set node to another name", b.opts.Node, ErrNameInUse)
		}
		select {
		case <-time.After(claimLook):
		case <-ctx.Done():
			return nil, fmt.Errorf("claim node name %s: %w", b.opts.Node, ctx.Err())
		}
	}
}

// take claims the name if it is free or was this data directory's. Otherwise it returns the revision of the claim that
// stands.
func (c *Claim) take(ctx context.Context) (other uint64, err error) {
	rev, err := c.kv.Create(ctx, c.key, []byte(c.value))
	if err == nil {
		c.rev = rev
		return 0, nil
	}
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return 0, err
	}
	e, err := c.kv.Get(ctx, c.key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return c.take(ctx) // it ran out just now
	}
	if err != nil {
		return 0, err
	}
	if identity(e.Value()) != identity([]byte(c.value)) {
		return e.Revision(), nil
	}
	if c.rev, err = c.kv.Update(ctx, c.key, []byte(c.value), e.Revision()); err != nil {
		return 0, err
	}
	return 0, nil
}

func identity(value []byte) string {
	id, _, _ := strings.Cut(string(value), " ")
	return id
}

// Run renews the claim until ctx ends. It fails if another hub has taken the name, which it can once this one was not heard
// for leaseTTL.
func (c *Claim) Run(ctx context.Context) error {
	for {
		renewed := c.bus.Renewed()
		select {
		case <-time.After(leaseRenew):
		case <-renewed: // the bucket is empty: whoever comes first has the name
		case <-ctx.Done():
			return nil
		}
		within, cancel := context.WithTimeout(ctx, leaseRenew)
		err := c.renew(within)
		cancel()
		if errors.Is(err, ErrNameInUse) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			c.bus.opts.Log.Warn("node name not renewed", "node", c.bus.opts.Node, "err", err)
		}
	}
}

func (c *Claim) renew(ctx context.Context) error {
	rev, err := c.kv.Update(ctx, c.key, []byte(c.value), c.rev)
	if err == nil {
		c.rev = rev
		return nil
	}
	e, err2 := c.kv.Get(ctx, c.key)
	switch {
	case errors.Is(err2, jetstream.ErrKeyNotFound): // it ran out, and nobody wanted it
		rev, err = c.kv.Create(ctx, c.key, []byte(c.value))
	case err2 != nil:
		return errors.Join(err, err2)
	case string(e.Value()) == c.value: // only the answer was lost
		rev, err = e.Revision(), nil
	case identity(e.Value()) == identity([]byte(c.value)):
		return fmt.Errorf("node name %s is %w, on a copy of this data directory; give the copy a node name of its own and remove its hub-id", c.bus.opts.Node, ErrNameInUse)
	default:
		return fmt.Errorf("node name %s is %w, which took it while this one was not heard; set node to another name", c.bus.opts.Node, ErrNameInUse)
	}
	if err == nil {
		c.rev = rev
	}
	return err
}

// Release frees the name at once instead of after its time.
func (c *Claim) Release() {
	c.bus.giveBack(c.kv, c.key, c.rev)
}
