//go:build linux

package main_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// diskSize is of the file system in an image; the image is sparse and holds only what was written.
const diskSize = 16 << 30

// TestPowerCutKeepsAllAcknowledged kills the hub under load and copies the image of its disk at once: the copy lacks what
// the kernel had not yet written, as a disk does after a power cut. The hub goes on from the copy. It needs root.
func TestPowerCutKeepsAllAcknowledged(t *testing.T) {
	image := makeDisk(t)
	var l ledger
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	for range cutRounds {
		image = cutUnderLoad(t, image, &l, hubWanted{Devices: chaosDevices}, time.Duration(300+rnd.IntN(1200))*time.Millisecond)
	}
	disk := mountDisk(t, image)
	hub, up := startHubPart(t, hubWanted{Dir: filepath.Join(disk, "data"), Devices: chaosDevices})
	a := l.settled(t, time.Minute, influxOf(t, up))
	hub.kill()
	unmount(t, disk)
	t.Logf("cuts=%d %v", cutRounds, a)
	wantWhole(t, a)
}

// TestPowerCutShowsLossWithoutSync is the control: a hub that does not sync must lose, or the cut above is none.
func TestPowerCutShowsLossWithoutSync(t *testing.T) {
	image := makeDisk(t)
	var l ledger
	image = cutUnderLoad(t, image, &l, hubWanted{Devices: chaosDevices, Unsynced: true, InfluxURL: nowhere}, 2*time.Second)
	disk := mountDisk(t, image)
	defer unmount(t, disk)
	hub, up := startHubPart(t, hubWanted{Dir: filepath.Join(disk, "data"), Devices: chaosDevices})
	a := l.settled(t, 5*time.Second, influxOf(t, up))
	hub.kill()
	t.Logf("control: ingest.sync off: %v", a)
	if a.lost == 0 {
		t.Error("a hub that does not sync lost nothing: the power cut is none")
	}
}

// cutUnderLoad runs a hub on the image, cuts the power, and returns the image as the cut left it.
func cutUnderLoad(t *testing.T, image string, l *ledger, want hubWanted, after time.Duration) string {
	t.Helper()
	disk := mountDisk(t, image)
	want.Dir = filepath.Join(disk, "data")
	hub, up := startHubPart(t, want)
	g := l.load(t, up, everlasting())
	time.Sleep(after)
	hub.kill()
	next := filepath.Join(t.TempDir(), "disk")
	mustRun(t, "cp", "--sparse=always", image, next)
	g.wait()
	unmount(t, disk)
	if err := os.Remove(image); err != nil {
		t.Fatal(err)
	}
	return next
}

func makeDisk(t *testing.T) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(diskSize); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "mkfs.ext4", "-q", "-m", "0", image)
	return image
}

func mountDisk(t *testing.T, image string) string {
	t.Helper()
	dir := t.TempDir()
	mustRun(t, "mount", "-o", "loop", image, dir)
	t.Cleanup(func() { _ = exec.Command("umount", dir).Run() }) // fails where the test has done it
	return dir
}

func unmount(t *testing.T, dir string) {
	t.Helper()
	mustRun(t, "umount", dir)
}

func mustRun(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out))
	}
}
