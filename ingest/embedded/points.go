package embedded

import (
	"errors"
	"fmt"

	"github.com/influxdata/influxdb"
	"github.com/influxdata/influxdb/coordinator"
	"github.com/influxdata/influxdb/models"
	"github.com/influxdata/influxdb/tsdb"
	"golang.org/x/sync/errgroup"
)

var (
	errUnknownDatabase = errors.New("database not found")
	errUnknownPolicy   = errors.New("retention policy not found")
)

// writePoints returns when every point is in the fsynced WAL of its shard, or refused. Points that the engine refused
// come back as a tsdb.PartialWriteError; all others are then stored. Unlike coordinator.PointsWriter it leaves
// nothing behind: that one answers at the first error while other shards are still being written.
func (e *engine) writePoints(db, rp string, points []models.Point) error {
	info := e.meta.Database(db)
	if info == nil {
		return fmt.Errorf("%w: %q", errUnknownDatabase, db)
	}
	if rp == "" {
		rp = info.DefaultRetentionPolicy
	}
	if info.RetentionPolicy(rp) == nil {
		return fmt.Errorf("%w: %s", errUnknownPolicy, rp)
	}
	mapping, err := e.mapper.MapShards(&coordinator.WritePointsRequest{Database: db, RetentionPolicy: rp, Points: points})
	if err != nil {
		return fmt.Errorf("map points to shards: %w", err)
	}
	var refused partial
	if n := len(mapping.Dropped); n > 0 {
		refused.add(tsdb.PartialWriteError{Reason: "points beyond retention policy", Dropped: n})
	}
	if len(mapping.Points) == 1 { // nearly always
		for id, points := range mapping.Points {
			err = e.writeShard(db, rp, id, points)
		}
		return refused.join(err)
	}
	var g errgroup.Group
	g.SetLimit(maxShardWriters)
	results := make(chan error, len(mapping.Points))
	for id, points := range mapping.Points {
		g.Go(func() error {
			results <- e.writeShard(db, rp, id, points)
			return nil
		})
	}
	_ = g.Wait() // each error is in results
	close(results)
	var failed error
	for err := range results {
		failed = errors.Join(failed, refused.take(err))
	}
	return refused.join(failed)
}

func (e *engine) writeShard(db, rp string, id uint64, points []models.Point) error {
	err := e.tsdb.WriteToShard(id, points)
	if errors.Is(err, tsdb.ErrShardNotFound) {
		err = e.tsdb.CreateShard(db, rp, id, true)
		if err == nil {
			err = e.tsdb.WriteToShard(id, points)
		}
	}
	if failedWAL(err) {
		e.fail.Do(func() { close(e.failed) })
	}
	if errors.Is(err, tsdb.ErrShardDeletion) {
		return tsdb.PartialWriteError{Reason: fmt.Sprintf("shard %d is pending deletion", id), Dropped: len(points)}
	}
	return err
}

// partial adds up what several shards refused; the first reason stands, as it does in the engine.
type partial struct{ tsdb.PartialWriteError }

func (p *partial) add(e tsdb.PartialWriteError) {
	if p.Reason == "" {
		p.Reason = e.Reason
	}
	p.Dropped += e.Dropped
}

// take keeps a partial write and returns every other error.
func (p *partial) take(err error) error {
	var e tsdb.PartialWriteError
	if errors.As(err, &e) {
		p.add(e)
		return nil
	}
	return err
}

// join returns err, or else what was refused.
func (p *partial) join(err error) error {
	if err := p.take(err); err != nil {
		return err
	}
	if p.Reason == "" {
		return nil
	}
	return p.PartialWriteError
}

// badPoints reports errors that come from what the points are; the same write can never succeed.
func badPoints(err error) bool {
	var refused tsdb.PartialWriteError
	return errors.As(err, &refused) || influxdb.IsClientError(err)
}
