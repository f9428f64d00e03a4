package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/influxdata/influxdb/tsdb/engine/tsm1"
)

// cutTornSegments cuts off what a crash left half written at the ends of the WAL's segments. The engine does that too, but
// only after it has noted the old end as the place to go on from: what it fsyncs from then on lies behind a gap, and the
// replay after the next crash takes the gap for the end.
func (e *engine) cutTornSegments() error {
	segments, err := filepath.Glob(e.path("wal", "*", "*", "*", tsm1.WALFilePrefix+"*."+tsm1.WALFileExtension))
	if err != nil {
		return err
	}
	for _, path := range segments {
		if err := e.cutTorn(path); err != nil {
			return fmt.Errorf("mend WAL: %w", err)
		}
	}
	return nil
}

func (e *engine) cutTorn(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	r := tsm1.NewWALSegmentReader(f)
	for r.Next() {
		if _, err := r.Read(); err != nil {
			break
		}
	}
	whole := r.Count()
	if whole == info.Size() {
		return nil
	}
	e.log.Warn("store was not closed cleanly: cutting off what was half written", "path", path, "bytes", info.Size()-whole)
	return errors.Join(f.Truncate(whole), f.Sync())
}

// failedWAL reports whether a write failed because the WAL could not be written. The engine keeps the error for good: until
// the shard is opened anew, all its writes fail by it, and no snapshot can be made. It hands errors on as text.
func failedWAL(err error) bool {
	if err == nil || badPoints(err) { // what is said of points holds names that a device chose
		return false
	}
	text, engine := strings.CutPrefix(err.Error(), "engine: ")
	return engine && (strings.Contains(text, "WAL") || strings.Contains(text, "."+tsm1.WALFileExtension))
}

func (e *engine) hasFailed() bool {
	select {
	case <-e.failed:
		return true
	default:
		return false
	}
}
