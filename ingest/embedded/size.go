package embedded

import (
	"context"
	"fmt"
	"time"

	"github.com/influxdata/influxdb/services/meta"
)

// watchSize keeps the size on disk in the metric and below the limit until ctx ends.
func (e *engine) watchSize(ctx context.Context, o Options, m *metrics) error {
	t := time.NewTicker(o.SizeInterval)
	defer t.Stop()
	for {
		if err := e.limitSize(o.MaxBytes, m); err != nil {
			o.Log.Error("embedded store: size limit", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// limitSize drops the oldest shard groups until the rest is within the limit. The one that takes the present is never
// dropped, so that a limit below one group's size is exceeded and said.
func (e *engine) limitSize(limit int64, m *metrics) error {
	for {
		size, err := e.tsdb.DiskSize()
		if err != nil {
			return fmt.Errorf("size of the shards: %w", err)
		}
		m.diskBytes.Set(float64(size))
		if limit == 0 || size <= limit {
			return nil
		}
		oldest, ok := e.oldestGroup(time.Now())
		if !ok {
			return fmt.Errorf("%d bytes are over the limit of %d, and only the current shard group is left", size, limit)
		}
		e.log.Warn("embedded store is over its size limit: dropping the oldest shard group", "bytes", size, "limit", limit,
			"database", oldest.db, "policy", oldest.rp, "from", oldest.StartTime, "to", oldest.EndTime)
		if err := e.dropGroup(oldest); err != nil {
			return err
		}
		m.droppedSize.Inc()
	}
}

type shardGroup struct {
	meta.ShardGroupInfo
	db, rp string
}

// oldestGroup finds the oldest shard group that has ended and holds shards on disk.
func (e *engine) oldestGroup(now time.Time) (oldest shardGroup, found bool) {
	for _, db := range e.meta.Databases() {
		for _, rp := range db.RetentionPolicies {
			for _, g := range rp.ShardGroups {
				if g.Deleted() || g.EndTime.After(now) || !e.onDisk(g) {
					continue
				}
				if !found || g.EndTime.Before(oldest.EndTime) {
					oldest, found = shardGroup{g, db.Name, rp.Name}, true
				}
			}
		}
	}
	return oldest, found
}

func (e *engine) onDisk(g meta.ShardGroupInfo) bool {
	for _, s := range g.Shards {
		if e.tsdb.Shard(s.ID) != nil {
			return true
		}
	}
	return false
}

// dropGroup takes the group out of the catalogue first: a crash in between leaves files that the retention service
// removes, never a group without files.
func (e *engine) dropGroup(g shardGroup) error {
	if err := e.meta.DeleteShardGroup(g.db, g.rp, g.ID); err != nil {
		return fmt.Errorf("drop shard group %d: %w", g.ID, err)
	}
	for _, s := range g.Shards {
		if err := e.tsdb.DeleteShard(s.ID); err != nil {
			return fmt.Errorf("delete shard %d: %w", s.ID, err)
		}
	}
	return nil
}
