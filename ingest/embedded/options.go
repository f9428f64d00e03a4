package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"github.com/influxdata/influxdb/services/meta"
	"github.com/prometheus/client_golang/prometheus"
)

// The limits that apply where Options leaves a field zero.
const (
	DefaultMaxBodyBytes  = 25_000_000 // one write, as sent and also as decompressed; influxd's own limit
	DefaultMaxRows       = 250_000    // rows in one unchunked answer; the rest is cut and marked partial
	DefaultQueryTimeout  = 60 * time.Second
	DefaultMaxQueries    = 8   // running at a time; more wait
	DefaultMaxWrites     = 16  // bodies held at a time; more wait
	DefaultMaxConns      = 256 // open connections; more wait to be accepted
	DefaultCheckInterval = 30 * time.Minute
	DefaultSizeInterval  = time.Minute
)

// The limits that nobody needs to turn.
const (
	maxHeaderBytes  = 64 << 10
	maxQueryBytes   = 4 << 20          // one /query body
	headerTimeout   = 10 * time.Second // a client that is slow with its headers
	bodyTimeout     = time.Minute      // or with its body
	answerTimeout   = 30 * time.Second // or in taking the answer
	idleTimeout     = 2 * time.Minute
	queueTimeout    = 10 * time.Second // waiting for a free slot; then 503
	stopTimeout     = 3 * time.Second  // for the requests in flight when the store stops
	reopenPause     = time.Second      // between two tries to open a store that could not write
	maxErrorHeader  = 1024
	defaultChunk    = 10_000 // rows in one result of a chunked answer, influxd's default
	maxShardWriters = 4      // shards that one body is written to at a time
)

// Options say where the store lives and what it serves.
type Options struct {
	Dir    string // holds meta, data and wal; made if missing
	Listen string // host:port; port 0 takes a free one. Empty serves nobody: for Export alone, and needs no token
	// AllowPlaintext permits a Listen address that is not loopback. The token then crosses the network in the clear.
	AllowPlaintext bool
	Token          string // the only credential; must not be empty
	Bucket         string // "db" or "db/rp", made at Open; its policy is the default one
	Org            string // accepted and not looked at, as in InfluxDB 1.8
	// Retention of Bucket; 0 keeps for ever, otherwise at least an hour. A change takes effect at the next Open.
	Retention time.Duration
	MaxBytes  int64 // on disk; when exceeded the oldest shard groups go. 0 is no limit

	MaxBodyBytes  int64
	MaxRows       int
	QueryTimeout  time.Duration
	MaxQueries    int
	MaxWrites     int
	MaxConns      int
	CheckInterval time.Duration // between looks for shards beyond retention
	SizeInterval  time.Duration // between looks at the size on disk

	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil keeps them private
}

func (o Options) withDefaults() Options {
	orDefault(&o.MaxBodyBytes, DefaultMaxBodyBytes)
	orDefault(&o.MaxRows, DefaultMaxRows)
	orDefault(&o.QueryTimeout, DefaultQueryTimeout)
	orDefault(&o.MaxQueries, DefaultMaxQueries)
	orDefault(&o.MaxWrites, max(DefaultMaxWrites, runtime.GOMAXPROCS(0)))
	orDefault(&o.MaxConns, DefaultMaxConns)
	orDefault(&o.CheckInterval, DefaultCheckInterval)
	orDefault(&o.SizeInterval, DefaultSizeInterval)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	return o
}

func orDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// validate reports every fault at once.
func (o Options) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if o.Dir == "" {
		fault("dir is empty")
	}
	if o.Token == "" && o.Listen != "" {
		fault("token is empty: the store serves nobody without one")
	}
	if db, rp, err := splitBucket(o.Bucket); err != nil {
		fault("bucket: %w", err)
	} else if !meta.ValidName(db) || (rp != "" && !meta.ValidName(rp)) || strings.ContainsAny(rp, "/") {
		fault("bucket %q is not a usable name", o.Bucket)
	}
	if o.Retention != 0 && o.Retention < meta.MinRetentionPolicyDuration {
		fault("retention %s is below %s (0 keeps for ever)", o.Retention, meta.MinRetentionPolicyDuration)
	}
	if o.MaxBytes < 0 {
		fault("max bytes %d is negative (0 is no limit)", o.MaxBytes)
	}
	if err := o.checkListen(); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

func (o Options) checkListen() error {
	if o.Listen == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	ip, err := netip.ParseAddr(host)
	if loopback := host == "localhost" || (err == nil && ip.IsLoopback()); !loopback && !o.AllowPlaintext {
		return fmt.Errorf("listen %s is not loopback, and the embedded store has no TLS: "+
			"use 127.0.0.1 and put a proxy with TLS before it, or allow plaintext", o.Listen)
	}
	return nil
}
