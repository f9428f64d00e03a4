//go:build linux

package embedded_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const imageSize = 96 << 20

// TestFullDiskHeals fills the disk of a store while it is written to, and frees it again. The store must take writes again
// in the same process, and what it acknowledged, before and after, must survive a kill. It needs root, for the mount.
func TestFullDiskHeals(t *testing.T) {
	image := filepath.Join(t.TempDir(), "disk")
	makeDisk(t, image)
	disk := mount(t, image)
	dir := filepath.Join(disk, "store")
	url, kill := child(t, dir)
	var acked ledger
	bodies := 0
	write := func() bool {
		ok := acked.write(url, "s", bodies)
		if ok {
			bodies++
		}
		return ok
	}
	for range 20 {
		if !write() {
			t.Fatal("refused while there was room")
		}
	}
	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	for write() { // into what room the segment has
		if bodies > 10_000 {
			t.Fatal("the disk does not get full")
		}
	}
	for range 3 {
		if write() {
			t.Error("control: a write was taken after one had failed; the disk was not full")
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(patience); !write(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the disk was freed, and the store takes nothing")
		}
	}
	for range 20 {
		if !write() {
			t.Fatal("refused after it had healed")
		}
	}
	kill()
	h := start(t, options(dir))
	lost, total := acked.missing(t, h)
	h.stop()
	unmount(t, disk)
	t.Logf("acked=%d lost=%d", total, lost)
	if lost != 0 {
		t.Errorf("lost %d acknowledged points", lost)
	}
}

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// fill takes all that the disk of path has.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func makeDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(imageSize); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", path)
}

func mount(t *testing.T, image string) string {
	t.Helper()
	dir := t.TempDir()
	run(t, "mount", "-o", "loop", image, dir)
	t.Cleanup(func() { _ = exec.Command("umount", dir).Run() }) // fails where the test has done it
	return dir
}

func unmount(t *testing.T, dir string) { t.Helper(); run(t, "umount", dir) }

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}
