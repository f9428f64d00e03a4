package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/influxdata/influxdb/tsdb"
)

// durableStore makes a new shard survive a power cut: the engine fsyncs what it writes into files, but not the
// directories that name them, nor the one that names the catalogue, which says what time range a shard holds.
type durableStore struct {
	*tsdb.Store
	dir string
}

// CreateShard creates the shard and returns when its directories, up to the store's own, are on disk.
func (s *durableStore) CreateShard(database, policy string, id uint64, enabled bool) error {
	if err := s.Store.CreateShard(database, policy, id, enabled); err != nil {
		return err
	}
	dirs := []string{s.dir, filepath.Join(s.dir, "meta")}
	for _, root := range []string{"data", "wal"} {
		path := filepath.Join(s.dir, root)
		dirs = append(dirs, path)
		for _, elem := range []string{database, policy, strconv.FormatUint(id, 10)} {
			path = filepath.Join(path, elem)
			dirs = append(dirs, path)
		}
	}
	for _, dir := range dirs {
		if err := syncDir(dir); err != nil {
			return fmt.Errorf("sync directories of shard %d: %w", id, err)
		}
	}
	return nil
}

func syncDir(path string) error { return syncFile(path) }

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
