//go:build chaos && linux

package embedded_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

const cutRounds = 10

// TestPowerCutKeepsAllAcknowledged lets the store write into a file system in an image, kills it and copies the image:
// the copy lacks what the kernel had not yet written, as the disk does after a power cut. It needs root, for the mounts.
func TestPowerCutKeepsAllAcknowledged(t *testing.T) {
	image := filepath.Join(t.TempDir(), "disk-0")
	makeDisk(t, image)
	var acked ledger
	for round := range cutRounds {
		disk := mount(t, image)
		url, kill := child(t, filepath.Join(disk, "store"))
		var wg sync.WaitGroup
		for w := range killWriters {
			wg.Add(1)
			go func() {
				defer wg.Done()
				series := fmt.Sprintf("r%dw%d", round, w)
				for i := 0; acked.write(url, series, i); i++ {
				}
			}()
		}
		acked.await((round + 1) * killAcks)
		unsynced := filepath.Join(disk, fmt.Sprintf("unsynced-%d", round))
		if err := os.WriteFile(unsynced, []byte("not on disk yet"), 0o600); err != nil {
			t.Fatal(err)
		}
		kill()
		wg.Wait()
		next := filepath.Join(t.TempDir(), fmt.Sprintf("disk-%d", round+1))
		copyFile(t, next, image)
		unmount(t, disk)
		image = next
		wantCut(t, image, filepath.Base(unsynced))
	}
	disk := mount(t, image)
	h := start(t, options(filepath.Join(disk, "store")))
	lost, total := acked.missing(t, h)
	h.stop()
	unmount(t, disk)
	t.Logf("cuts=%d acked=%d lost=%d", cutRounds, total, lost)
	if lost != 0 {
		t.Errorf("lost %d acknowledged points", lost)
	}
}

// wantCut is the control: what was written without fsync before the cut must be lost, or the cut was none.
func wantCut(t *testing.T, image, name string) {
	t.Helper()
	disk := mount(t, image)
	if data, err := os.ReadFile(filepath.Join(disk, name)); err == nil && len(data) > 0 {
		t.Errorf("control: %s survived the cut", name)
	}
	unmount(t, disk)
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
}
