package embedded

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/influxdata/influxdb/coordinator"
	"github.com/influxdata/influxdb/models"
	"github.com/influxdata/influxdb/monitor"
	"github.com/influxdata/influxdb/query"
	"github.com/influxdata/influxdb/services/meta"
	"github.com/influxdata/influxdb/services/precreator"
	"github.com/influxdata/influxdb/services/retention"
	"github.com/influxdata/influxdb/toml"
	"github.com/influxdata/influxdb/tsdb"
	_ "github.com/influxdata/influxdb/tsdb/engine" // registers tsm1
	_ "github.com/influxdata/influxdb/tsdb/index"  // registers inmem
)

// The engine's memory, measured for a small hub: see BenchmarkRSS. The cache is what a crash replays from the WAL.
const (
	cacheMaxBytes      = 256 << 20 // a write beyond it is refused with 500 until a snapshot made room
	cacheSnapshotBytes = 8 << 20   // written to a TSM file from here on
	cacheColdAfter     = 10 * time.Minute
	compactBytesPerSec = 48 << 20
)

// engine is InfluxDB without its HTTP service.
type engine struct {
	dir        string
	log        *slog.Logger
	lock       io.Closer
	meta       *meta.Client
	tsdb       *durableStore
	mapper     *coordinator.PointsWriter // maps points to shards; also takes SELECT INTO
	queries    *query.Executor
	retention  *retention.Service
	precreator *precreator.Service
	opened     bool // the shards are; only then is a close a clean one

	fail   sync.Once
	failed chan struct{} // closed when a shard's WAL takes no more
}

// openEngine opens, or makes, the store below o.Dir. On error nothing is left open.
func openEngine(o Options, m *metrics) (_ *engine, err error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	e := &engine{dir: o.Dir, log: o.Log, lock: lock, failed: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	if err := os.MkdirAll(e.path("meta"), 0o700); err != nil {
		return nil, err
	}
	if err := e.mend(); err != nil {
		return nil, err
	}
	e.meta = meta.NewClient(&meta.Config{Dir: e.path("meta"), RetentionAutoCreate: true})
	if err := e.meta.Open(); err != nil {
		return nil, fmt.Errorf("read catalogue: %w", err)
	}
	if err := e.ensureBucket(o); err != nil {
		return nil, err
	}
	e.build(o)
	return e, e.start(m)
}

func (e *engine) path(elem ...string) string {
	return filepath.Join(append([]string{e.dir}, elem...)...)
}

// build puts the parts together; nothing runs yet.
func (e *engine) build(o Options) {
	c := tsdb.NewConfig()
	c.Dir, c.WALDir = e.path("data"), e.path("wal")
	c.Index = tsdb.InmemIndexName
	c.QueryLogEnabled = false
	c.CacheMaxMemorySize = toml.Size(cacheMaxBytes)
	c.CacheSnapshotMemorySize = toml.Size(cacheSnapshotBytes)
	c.CacheSnapshotWriteColdDuration = toml.Duration(cacheColdAfter)
	c.CompactThroughput, c.CompactThroughputBurst = compactBytesPerSec, compactBytesPerSec
	c.MaxConcurrentCompactions = 1
	// The hub guards cardinality before the acknowledgement; a limit here would lose what was acknowledged.
	c.MaxSeriesPerDatabase, c.MaxValuesPerTag = 0, 0

	store := tsdb.NewStore(c.Dir)
	store.EngineOptions.Config = c
	store.EngineOptions.EngineVersion = c.Engine
	store.EngineOptions.IndexVersion = c.Index
	e.tsdb = &durableStore{Store: store, dir: e.dir}

	e.mapper = coordinator.NewPointsWriter()
	e.mapper.TSDBStore = e.tsdb
	e.mapper.MetaClient = e.meta

	e.queries = query.NewExecutor()
	e.queries.TaskManager.QueryTimeout = o.QueryTimeout
	e.queries.StatementExecutor = &statements{&coordinator.StatementExecutor{
		MetaClient:  e.meta,
		TaskManager: e.queries.TaskManager,
		TSDBStore:   store,
		ShardMapper: &coordinator.LocalShardMapper{
			MetaClient: e.meta,
			TSDBStore:  coordinator.LocalTSDBStore{Store: store},
		},
		PointsWriter: e.mapper,
		Monitor:      monitor.New(e, monitor.Config{}),
	}}

	e.retention = retention.NewService(retention.Config{Enabled: true, CheckInterval: toml.Duration(o.CheckInterval)})
	e.retention.MetaClient, e.retention.TSDBStore = e.meta, store
	e.precreator = precreator.NewService(precreator.NewConfig())
	e.precreator.MetaClient = e.meta

	z := zapLogger(o.Log)
	e.meta.WithLogger(z)
	store.WithLogger(z)
	e.queries.WithLogger(z)
	e.mapper.WithLogger(z)
	e.retention.WithLogger(z)
	e.precreator.WithLogger(z)
}

func (e *engine) start(m *metrics) error {
	if err := e.tsdb.Open(); err != nil {
		return fmt.Errorf("open shards: %w", err)
	}
	e.opened = true
	if err := e.mapper.Open(); err != nil {
		return err
	}
	e.reportBroken(m)
	if err := e.retention.Open(); err != nil {
		return err
	}
	return e.precreator.Open()
}

// reportBroken tells of shards that the engine could not open: it logs and goes on without them, and the time that
// they hold would look empty.
func (e *engine) reportBroken(m *metrics) {
	open := make(map[uint64]bool)
	for _, id := range e.tsdb.ShardIDs() {
		open[id] = true
	}
	broken := 0
	for _, id := range e.meta.ShardIDs() {
		db, rp, group := e.meta.ShardOwner(id)
		if open[id] || group == nil {
			continue
		}
		path := e.path("data", db, rp, fmt.Sprint(id))
		if _, err := os.Stat(path); err != nil {
			continue // never written to
		}
		broken++
		e.log.Error("shard cannot be read: its time range will look empty", "shard", id, "path", path,
			"from", group.StartTime, "to", group.EndTime)
	}
	m.brokenShards.Set(float64(broken))
}

// close stops what runs, in the order in which influxd does. It may be called on a half-open engine.
func (e *engine) close() error {
	var errs []error
	if e.retention != nil {
		errs = append(errs, e.retention.Close(), e.precreator.Close())
		errs = append(errs, e.mapper.Close(), e.queries.Close(), e.closeShards())
	}
	if e.meta != nil {
		errs = append(errs, e.meta.Close())
	}
	return errors.Join(append(errs, e.lock.Close())...)
}

func (e *engine) closeShards() error {
	if err := e.tsdb.Close(); err != nil {
		return fmt.Errorf("close shards: %w", err)
	}
	if !e.opened || e.hasFailed() {
		return nil
	}
	if err := e.cutTornSegments(); err != nil {
		return err // and the next start mends it
	}
	return e.markClean()
}

// Statistics is what SHOW STATS shows.
func (e *engine) Statistics(tags map[string]string) []models.Statistic {
	stats := e.queries.Statistics(tags)
	stats = append(stats, e.tsdb.Statistics(tags)...)
	return append(stats, e.mapper.Statistics(tags)...)
}
