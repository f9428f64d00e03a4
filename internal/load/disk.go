package load

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Disk is what the disk under a directory does: how long it takes to append a block and sync it.
type Disk struct {
	Block    int
	P50, P99 time.Duration
	PerSec   float64
}

// ProbeDisk appends blocks to a file in dir and syncs each, for about the time given. A pause between them shows what a
// sync takes that does not follow another at once.
func ProbeDisk(dir string, block int, during, pause time.Duration) (d Disk, err error) {
	name := filepath.Join(dir, "fsync-probe")
	file, err := os.Create(name)
	if err != nil {
		return d, fmt.Errorf("probe the disk: %w", err)
	}
	defer os.Remove(name)
	defer file.Close()
	data := make([]byte, block)
	var took []time.Duration
	for start := time.Now(); time.Since(start) < during; {
		at := time.Now()
		if _, err := file.Write(data); err != nil {
			return d, fmt.Errorf("probe the disk: %w", err)
		}
		if err := file.Sync(); err != nil {
			return d, fmt.Errorf("probe the disk: %w", err)
		}
		took = append(took, time.Since(at))
		time.Sleep(pause)
	}
	slices.Sort(took)
	return Disk{
		Block: block, P50: took[len(took)/2], P99: took[len(took)*99/100], PerSec: float64(len(took)) / during.Seconds(),
	}, nil
}
