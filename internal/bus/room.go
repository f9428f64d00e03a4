package bus

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"syscall"
)

// ErrNoRoom says that the disk is too small for the log.
var ErrNoRoom = errors.New("not enough free space for the log")

// diskShare is the share of the disk that the streams may reserve, of what they hold and what is free: a full disk makes
// JetStream hang, while a full stream fails cleanly.
const diskShare = 0.8

// bound returns how much the embedded server may let streams reserve, and fits the log into the disk.
//
// What a disk has to give is asked at the first start only. Later others have filled it, or InfluxDB has, and the streams
// that stand reserve more than would be given now: a server with a bound below that refuses to declare any of them, however
// small, and the hub would not start while points that it acknowledged wait in the log. From then on the streams' own sizes
// bound the store, and Room the disk.
func (b *Bus) bound() (int64, error) {
	share, err := storeShare(b.opts.Dir)
	if err != nil {
		return 0, err
	}
	stands, err := logStands(b.opts.Dir)
	if err != nil {
		return 0, err
	}
	if b.Alone() {
		if err := b.fit(share, stands); err != nil {
			return 0, err
		}
	}
	if stands {
		return math.MaxInt64, nil
	}
	return share, nil
}

// fit makes the log as large as configured, or as the disk allows. A log that stands may become smaller than what it holds:
// that stays, and nothing is added until it is written.
func (b *Bus) fit(share int64, stands bool) error {
	reserved := b.opts.Sizes.reserved()
	room := share - reserved - share/10
	if room < MinTelemetryBytes {
		if !stands {
			return fmt.Errorf("%w: %s has %d MiB to give, the streams need %d MiB",
				ErrNoRoom, b.opts.Dir, share>>20, (reserved+MinTelemetryBytes)>>20)
		}
		room = MinTelemetryBytes
	}
	b.sizes = b.opts.Sizes
	if b.sizes.TelemetryBytes > room {
		b.opts.Log.Warn("log made smaller than configured: the disk has no room",
			"want_bytes", b.sizes.TelemetryBytes, "have_bytes", room)
		b.sizes.TelemetryBytes = room
	}
	return nil
}

// streamDir is where the embedded server keeps a stream.
func streamDir(dir, stream string) string {
	return filepath.Join(dir, "jetstream", "$G", "streams", stream)
}

// logStands reports whether the log was made before. It is the first stream that is declared.
func logStands(dir string) (bool, error) {
	_, err := os.Stat(streamDir(dir, StreamTelemetry))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the log: %w", err)
	}
	return true, nil
}

// storeShare is diskShare of what the store already holds plus what the disk still has.
func storeShare(dir string) (int64, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, fmt.Errorf("data directory: %w", err)
	}
	free, err := FreeBytes(dir)
	if err != nil {
		return 0, err
	}
	var held int64
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err == nil {
			held += info.Size()
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", dir, err)
	}
	return int64(diskShare * float64(free+held)), nil
}

// FreeBytes is the space that the disk under dir has for us.
func FreeBytes(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(st.Bavail * uint64(st.Bsize)), nil
}
