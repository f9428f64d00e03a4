package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// ErrNotOpen is returned by Run and Export when Open has not succeeded, or Close has been called.
var ErrNotOpen = errors.New("embedded store is not open")

// Store is one embedded InfluxDB. Open it, Run it; it is closed when Run returns.
type Store struct {
	opt     Options // static after New
	metrics *metrics

	mu       sync.Mutex // guards what follows
	engine   *engine
	address  string          // it listened there, and does so again
	listener net.Listener    // nil if nothing is served
	users    *sync.WaitGroup // of engine: it is closed when they are done
}

// New checks the options. It starts nothing and touches no file.
func New(o Options) (*Store, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("embedded store: %w", err)
	}
	return &Store{opt: o, metrics: newMetrics(o.Metrics)}, nil
}

// Open loads the engine and takes the listening address. When it returns nil, URL is known and connections are
// taken; they are answered once Run is called. It blocks while the WAL is replayed. With an empty Options.Listen the
// store serves nobody, and is there for Export alone.
func (s *Store) Open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine != nil {
		return nil
	}
	e, err := openEngine(s.opt, s.metrics)
	if err != nil {
		return fmt.Errorf("open embedded store: %w", err)
	}
	if s.opt.Listen != "" {
		var lc net.ListenConfig
		if s.listener, err = lc.Listen(context.Background(), "tcp", cmp.Or(s.address, s.opt.Listen)); err != nil {
			return fmt.Errorf("embedded store: %w", errors.Join(err, e.close()))
		}
		s.address = s.listener.Addr().String()
	}
	s.engine, s.users = e, new(sync.WaitGroup)
	s.opt.Log.Info("embedded store open", "dir", s.opt.Dir, "url", s.urlLocked(),
		"bucket", s.opt.Bucket, "shards", len(e.tsdb.ShardIDs()))
	return nil
}

// URL is the root of the HTTP API, without a slash at its end; empty before Open.
func (s *Store) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.urlLocked()
}

func (s *Store) urlLocked() string {
	if s.address == "" {
		return ""
	}
	return "http://" + s.address
}

// Run serves until ctx ends or the listener fails, lets the requests in flight finish, and closes the store. A store whose
// WAL could not be written, as on a full disk, is closed and opened anew meanwhile: the engine never tries again.
func (s *Store) Run(ctx context.Context) error {
	for {
		err := s.run(ctx)
		if !errors.Is(err, errFailed) {
			return err
		}
		s.opt.Log.Error("embedded store could not write; opening it anew once it can", "err", err)
		if !s.reopen(ctx) {
			return nil
		}
		s.metrics.reopened.Inc()
	}
}

// errFailed ends a run whose engine takes no more writes.
var errFailed = errors.New("the WAL could not be written")

// reopen opens the store as soon as its disk takes something again, and reports false if ctx ends before.
func (s *Store) reopen(ctx context.Context) bool {
	said := ""
	for {
		err := probe(s.opt.Dir)
		if err == nil {
			err = s.Open()
		}
		if err == nil {
			return true
		}
		if err.Error() != said {
			said = err.Error()
			s.opt.Log.Warn("embedded store stays closed", "err", err)
		}
		select {
		case <-time.After(reopenPause):
		case <-ctx.Done():
			return false
		}
	}
}

// probe writes as much as the engine wants to have room for.
func probe(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "probe"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(make([]byte, cacheSnapshotBytes))
	return errors.Join(err, f.Sync(), f.Close())
}

func (s *Store) run(ctx context.Context) error {
	e, done, err := s.use()
	if err != nil {
		return err
	}
	err = s.serve(ctx, e)
	done()
	return errors.Join(err, s.Close())
}

func (s *Store) serve(ctx context.Context, e *engine) error {
	s.mu.Lock()
	l := s.listener
	s.mu.Unlock()
	if l == nil {
		return fmt.Errorf("serve embedded store: no listen address: %w", ErrNotOpen)
	}
	h := newHandler(s.opt, e, s.metrics)
	srv, abort := newServer(s.opt, h)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := srv.Serve(limitConns(l, s.opt.MaxConns))
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve embedded store: %w", err)
	})
	g.Go(func() error {
		<-gctx.Done()
		return stopServer(srv, abort, h)
	})
	g.Go(func() error {
		return e.watchSize(gctx, s.opt, s.metrics)
	})
	g.Go(func() error {
		select {
		case <-e.failed:
			return errFailed
		case <-gctx.Done():
			return nil
		}
	})
	return g.Wait()
}

// Close waits for exports and closes the engine and the listener. Run does it too; call it where Open succeeded and
// Run was never called.
func (s *Store) Close() error {
	s.mu.Lock()
	e, l, users := s.engine, s.listener, s.users
	s.engine, s.listener, s.users = nil, nil, nil
	s.mu.Unlock()
	if e == nil {
		return nil
	}
	var err error
	if l != nil {
		if err = l.Close(); errors.Is(err, net.ErrClosed) {
			err = nil // the server has closed it
		}
	}
	users.Wait()
	return errors.Join(err, e.close())
}

// use keeps the engine open until done is called.
func (s *Store) use() (e *engine, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine == nil {
		return nil, nil, ErrNotOpen
	}
	s.users.Add(1)
	return s.engine, s.users.Done, nil
}
