package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

var errDamaged = errors.New("embedded jetstream cannot write: disk full or failing; it is started again as soon as there is room")

const (
	roomEvery = 200 * time.Millisecond
	// mendEvery is the least time between two starts of the embedded server.
	mendEvery = 2 * time.Second
	// brim is so little free space that some write may have failed already. Not every failure is told, and JetStream
	// tries none again, so the server is then started anew as soon as there is room.
	brim = 4 << 20
	// mendTime bounds how long the server and the streams may take to come back.
	mendTime = time.Minute
)

// InProcessConn connects to the embedded server as it is now, so that connections outlive it.
func (b *Bus) InProcessConn() (net.Conn, error) {
	srv := b.srv.Load()
	if srv == nil {
		return nil, errDamaged
	}
	return srv.InProcessConn()
}

// Room reports why nothing more may be written to the disk, or nil. An embedded JetStream that meets a full disk hangs
// until it is started again, so it must not come to that: whoever writes in bulk asks here first.
func (b *Bus) Room() error {
	if err := b.room.Load(); err != nil {
		return *err
	}
	if b.damaged.Load() {
		return errDamaged
	}
	return nil
}

// Run watches the disk until ctx ends, and starts the embedded server again when it could not write: others may fill the
// disk too, and faster than anybody looks. Of outside servers it makes anew what they forget when they start again.
func (b *Bus) Run(ctx context.Context) error {
	if !b.Embedded() {
		return b.renew(ctx)
	}
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	var mended time.Time
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		b.measure()
		if !b.damaged.Load() || b.room.Load() != nil || time.Since(mended) < mendEvery {
			continue
		}
		if err := b.mend(ctx); err != nil && ctx.Err() == nil {
			b.opts.Log.Error("start embedded nats again", "err", err)
		}
		mended = time.Now()
	}
}

// measure notes whether there is room.
func (b *Bus) measure() {
	free, err := FreeBytes(b.opts.Dir)
	if err == nil && free < brim {
		b.damaged.Store(true)
	}
	if keep := max(b.opts.MinFree, brim); err == nil && free < keep {
		err = fmt.Errorf("%w: %d MiB of the disk are free, ingest.min_free_bytes keeps %d MiB", ErrNoRoom, free>>20, keep>>20)
	}
	if err == nil {
		b.room.Store(nil)
		return
	}
	b.room.Store(&err)
}

// mend starts the embedded server again. What it had acknowledged is on the disk; what is kept in memory only comes back
// empty and is made anew by its owners.
func (b *Bus) mend(ctx context.Context) error {
	b.opts.Log.Warn("embedded nats could not write; starting it again")
	b.stopServer()
	if err := b.startServer(); err != nil {
		return err // still damaged, so it is tried again
	}
	b.damaged.Store(false)
	ctx, cancel := context.WithTimeout(ctx, mendTime)
	defer cancel()
	for !b.nc.IsConnected() {
		select {
		case <-time.After(roomEvery):
		case <-ctx.Done():
			return fmt.Errorf("connect again: %w", ctx.Err())
		}
	}
	if err := b.declare(ctx, b.sizes); err != nil {
		b.damaged.Store(true)
		return fmt.Errorf("declare the bus: %w", err)
	}
	b.opts.Log.Info("embedded nats is back")
	return nil
}

func (b *Bus) stopServer() {
	if srv := b.srv.Swap(nil); srv != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
	}
}
