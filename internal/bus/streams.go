package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The streams and buckets of the hub, all declared here.
const (
	StreamTelemetry  = "TELEMETRY"  // unwritten telemetry; purged by the hub at the lowest cursor
	StreamDeadletter = "DEADLETTER" // points that InfluxDB refused
	StreamCommands   = "COMMANDS"   // commands and their events, one subject per device
	StreamAudit      = "AUDIT"      // who changed what

	BucketDevices   = "devices"   // device records
	BucketTwins     = "twins"     // desired and reported state
	BucketOperators = "operators" // operators and their roles
	BucketTypes     = "types"     // the type of each measurement's fields: the first one wins
	BucketHub       = "hub"       // small durable facts of the hub itself: cursors, leases
	BucketPresence  = "presence"  // who is on line; in memory
	BucketControl   = "control"   // which operator holds which device
	BucketJobs      = "jobs"      // commands to many devices
	BucketEnrolls   = "enrolls"   // secrets that devices make their own records with, hashed
	BucketLeases    = "leases"    // what only one node does at a time; in memory
)

// Sizes bounds what the bus keeps on disk.
type Sizes struct {
	TelemetryBytes int64
	DeadletterKeep time.Duration
	CommandsBytes  int64 // 0: DefaultCommandsBytes
	CommandsKeep   time.Duration
}

// MarkerTTL is how long a bucket says what was forgotten of it, to nodes that were away meanwhile.
const MarkerTTL = 24 * time.Hour

// DefaultCommandsBytes is the room for commands and their events if none is asked for.
const DefaultCommandsBytes = 1 << 30

func (s Sizes) commandsBytes() int64 {
	if s.CommandsBytes <= 0 {
		return DefaultCommandsBytes
	}
	return s.CommandsBytes
}

// The bounds that nobody has needed to set yet. JetStream reserves a stream's bytes when it is created.
const (
	deadletterBytes = 256 << 20
	auditBytes      = 256 << 20
	bucketBytes     = 256 << 20
	presenceBytes   = 64 << 20
	controlBytes    = 16 << 20
	controlKeep     = 25 * time.Hour // longer than any lease
	maxJobValue     = 512 << 10
	enrollBytes     = 32 << 20
	maxEnrollValue  = 256 << 10

	auditKeep      = 365 * 24 * time.Hour
	commandMsgSize = 512 << 10 // above the largest frame that a device may send, which may be a result
)

// MaxCommandMessage is the largest message of the command log, with room beside it for the headers of a batch.
const MaxCommandMessage = commandMsgSize - 1<<10

// MinTelemetryBytes is the least room for unwritten telemetry that makes sense.
const MinTelemetryBytes = 16 << 20

// reserved is what all streams and buckets but TELEMETRY reserve on disk.
func (s Sizes) reserved() int64 {
	return deadletterBytes + s.commandsBytes() + auditBytes + controlBytes + enrollBytes + 6*bucketBytes
}

func (b *Bus) declare(ctx context.Context, s Sizes) error {
	streams := []jetstream.StreamConfig{
		{
			Name: StreamTelemetry, Subjects: []string{TelemetrySubject},
			Description: "unwritten telemetry, in batches; an ack to a device follows the publish ack",
			Retention:   jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, MaxBytes: s.TelemetryBytes,
		},
		{
			Name: StreamDeadletter, Subjects: []string{deadletterPrefix + "*"},
			Description: "points that InfluxDB refused, with its reason",
			Retention:   jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
			MaxBytes: deadletterBytes, MaxAge: s.DeadletterKeep, AllowDirect: true,
		},
		{
			Name: StreamCommands, Subjects: []string{commandPrefix + "*"},
			Description: "what operators asked and what became of it; state is the fold of events",
			Retention:   jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
			MaxBytes: s.commandsBytes(), MaxAge: s.CommandsKeep, MaxMsgSize: commandMsgSize,
			AllowAtomicPublish: true, AllowDirect: true,
		},
		{
			Name: StreamAudit, Subjects: []string{auditSubject},
			Description: "who changed what, hash-chained",
			Retention:   jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
			MaxBytes: auditBytes, MaxAge: auditKeep,
		},
	}
	for _, cfg := range streams {
		cfg.Storage = jetstream.FileStorage
		cfg.Replicas = b.replicas
		if _, err := b.js.CreateOrUpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("stream %s: %w", cfg.Name, err)
		}
	}
	buckets := []jetstream.KeyValueConfig{
		{Bucket: BucketDevices, MaxBytes: bucketBytes, History: 1},
		{Bucket: BucketTwins, MaxBytes: bucketBytes, History: 1, MaxValueSize: 40 << 10},
		{Bucket: BucketOperators, MaxBytes: bucketBytes, History: 1},
		{Bucket: BucketTypes, MaxBytes: bucketBytes, History: 1},
		{Bucket: BucketHub, MaxBytes: bucketBytes, History: 1},
		{Bucket: BucketControl, MaxBytes: controlBytes, History: 1, TTL: controlKeep},
		{Bucket: BucketJobs, MaxBytes: bucketBytes, History: 1, MaxValueSize: maxJobValue, LimitMarkerTTL: MarkerTTL},
		{Bucket: BucketEnrolls, MaxBytes: enrollBytes, History: 1, MaxValueSize: maxEnrollValue},
		{Bucket: BucketPresence, MaxBytes: presenceBytes, History: 1, Storage: jetstream.MemoryStorage},
		{Bucket: BucketLeases, MaxBytes: 1 << 20, History: 1, Storage: jetstream.MemoryStorage, TTL: leaseTTL},
	}
	for _, cfg := range buckets {
		cfg.Replicas = b.replicas
		if _, err := b.js.CreateOrUpdateKeyValue(ctx, cfg); err != nil {
			return fmt.Errorf("bucket %s: %w", cfg.Bucket, err)
		}
	}
	return b.allowBatches(ctx, BucketDevices)
}

// allowBatches lets many keys of a bucket be written with one sync. A bucket's own configuration cannot say so.
func (b *Bus) allowBatches(ctx context.Context, bucket string) error {
	s, err := b.Stream(ctx, "KV_"+bucket)
	if err != nil {
		return err
	}
	cfg := s.CachedInfo().Config
	if cfg.AllowAtomicPublish {
		return nil
	}
	cfg.AllowAtomicPublish = true
	if _, err := b.js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("allow batches in bucket %s: %w", bucket, err)
	}
	return nil
}

// Stream returns a declared stream.
func (b *Bus) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := b.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	return s, nil
}

// Bucket returns a declared key-value bucket.
func (b *Bus) Bucket(ctx context.Context, name string) (jetstream.KeyValue, error) {
	kv, err := b.js.KeyValue(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", name, err)
	}
	return kv, nil
}

// Forget removes keys of a bucket without a trace; keys may end in ".>". Whoever watches the bucket is not told.
func (b *Bus) Forget(ctx context.Context, bucket, keys string) error {
	s, err := b.Stream(ctx, "KV_"+bucket)
	if err == nil {
		err = s.Purge(ctx, jetstream.WithPurgeSubject("$KV."+bucket+"."+keys))
	}
	if err != nil {
		return fmt.Errorf("forget %s in %s: %w", keys, bucket, err)
	}
	return nil
}

// IsTooLarge reports whether err says that a message is larger than its stream or the server takes.
func IsTooLarge(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, nats.ErrMaxPayload) ||
		errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum
}

// IsFull reports whether err says that a stream or the whole store has no room left.
func IsFull(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	// 10077 maximum bytes exceeded, 10047 insufficient storage, 10023 insufficient resources [nats-server errors.json].
	return api.ErrorCode == 10077 || api.ErrorCode == 10047 || api.ErrorCode == 10023
}
