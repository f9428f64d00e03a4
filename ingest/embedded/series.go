package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/influxdata/influxdb/tsdb"
)

// cleanMark is there exactly while the store is closed after a clean stop.
const cleanMark = "clean"

// mend readies for the engine what a stop that was not clean left.
func (e *engine) mend() error {
	err := os.Remove(e.path(cleanMark))
	if err == nil {
		return syncDir(e.dir)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take the store: %w", err)
	}
	return errors.Join(e.dropStaleSeries(), e.cutTornSegments())
}

// dropStaleSeries removes the series files. The engine writes them without fsync, so that after a power cut they may lack
// series whose points are in the WAL; the in-memory index makes them anew from WAL and TSM files as the shards are opened.
func (e *engine) dropStaleSeries() error {
	stale, err := filepath.Glob(e.path("data", "*", tsdb.SeriesFileDirectory))
	if err != nil {
		return err
	}
	for _, dir := range stale {
		e.log.Info("store was not closed cleanly: making its series file anew", "path", dir)
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove stale series file: %w", err)
		}
	}
	return nil
}

// markClean leaves the mark, after everything before it is on disk.
func (e *engine) markClean() error {
	segments, err := filepath.Glob(e.path("data", "*", tsdb.SeriesFileDirectory, "*", "*"))
	if err != nil {
		return err
	}
	for _, f := range segments {
		if err := syncFile(f); err != nil {
			return fmt.Errorf("sync series file: %w", err)
		}
	}
	f, err := os.OpenFile(e.path(cleanMark), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("mark the store clean: %w", err)
	}
	return errors.Join(f.Sync(), f.Close(), syncDir(e.dir))
}
