package embedded

import (
	"fmt"
	"strings"
	"time"

	"github.com/influxdata/influxdb/services/meta"
)

const (
	defaultPolicy = "autogen" // influxd's name
	// With a size limit the unit that goes is a shard group; a week of it would be a large part of the history.
	sizedShardGroup = 24 * time.Hour
)

// splitBucket reads a bucket as InfluxDB 1.8 does: "db" or "db/rp".
func splitBucket(bucket string) (db, rp string, err error) {
	db, rp, slash := strings.Cut(bucket, "/")
	switch {
	case db == "" && !slash:
		return "", "", fmt.Errorf(`bucket name %q is missing a slash; not in "database/retention-policy" format`, bucket)
	case db == "":
		return "", "", fmt.Errorf(`bucket name %q is in db/rp form but has an empty database`, bucket)
	}
	return db, rp, nil
}

// ensureBucket makes the configured bucket, or brings its retention to the configured one.
func (e *engine) ensureBucket(o Options) error {
	db, rp, err := splitBucket(o.Bucket)
	if err != nil {
		return err
	}
	if rp == "" {
		rp = defaultPolicy
	}
	group := shardGroupDuration(o)
	if err := e.ensurePolicy(db, rp, o.Retention, group); err != nil {
		return fmt.Errorf("make bucket %s: %w", o.Bucket, err)
	}
	return nil
}

func (e *engine) ensurePolicy(db, rp string, keep, group time.Duration) error {
	one := 1
	spec := &meta.RetentionPolicySpec{Name: rp, Duration: &keep, ReplicaN: &one, ShardGroupDuration: group}
	info := e.meta.Database(db)
	if info == nil {
		_, err := e.meta.CreateDatabaseWithRetentionPolicy(db, spec)
		return err
	}
	old := info.RetentionPolicy(rp)
	if old == nil {
		_, err := e.meta.CreateRetentionPolicy(db, spec, true)
		return err
	}
	if old.Duration == keep && old.ShardGroupDuration == group && info.DefaultRetentionPolicy == rp {
		return nil
	}
	e.log.Info("retention of the bucket changed", "database", db, "policy", rp, "from", old.Duration, "to", keep)
	return e.meta.UpdateRetentionPolicy(db, rp, &meta.RetentionPolicyUpdate{Duration: &keep, ShardGroupDuration: &group}, true)
}

// shardGroupDuration is influxd's choice for a retention, but never over a day where the size is limited.
func shardGroupDuration(o Options) time.Duration {
	const day = 24 * time.Hour
	group := 7 * day
	switch {
	case o.Retention == 0 || o.Retention >= 180*day:
	case o.Retention >= 2*day:
		group = day
	default:
		group = time.Hour
	}
	if o.MaxBytes > 0 {
		group = min(group, sizedShardGroup)
	}
	return group
}
