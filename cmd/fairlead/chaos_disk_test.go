//go:build linux

package main_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/internal/bus"
	"github.com/fairlead-hub/fairlead/internal/influxtest"
)

// TestChaosFullDiskSlowsAndHeals fills the disk of the log under load and frees it again. The hub may slow its devices down
// and put new ones off, but what it acknowledged must be there, and it must go on by itself, in the same process.
func TestChaosFullDiskSlowsAndHeals(t *testing.T) {
	for _, tt := range []struct {
		name    string
		minFree int64 // the hub keeps
		left    int64 // by whoever fills the disk
		mended  bool  // the bus meets the full disk and has to be started again
	}{
		{"to below min_free_bytes", 256 << 20, 128 << 20, false},
		{"to the last byte, at once", 1, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			disk := mountDisk(t, makeDisk(t))
			defer unmount(t, disk)
			db := influxtest.Start(t)
			hub, up := startHubPart(t, hubWanted{
				Dir: filepath.Join(disk, "data"), InfluxURL: db.URL, InfluxToken: db.Token, Devices: chaosDevices, MinFree: tt.minFree,
			})
			defer hub.kill()
			var l ledger
			g := l.load(t, up, everlasting())
			points := func() float64 { return metric(t, up, "fairlead_ingest_points_total") }
			until(t, "points", func() bool { return points() > 1000 })

			ballast := filepath.Join(disk, "ballast")
			held := 0.0
			if tt.mended {
				held = overfill(t, ballast, disk, up)
			} else {
				fill(t, ballast, disk, tt.left)
				until(t, "the log to take no more", func() bool { return metric(t, up, "fairlead_ingest_stalled") == 1 })
				wantPutOff(t, up)
				held = points()
				time.Sleep(faultTime) // it stays full for a while
				if now := points(); now != held {
					t.Errorf("%v points were acknowledged while the log took none", now-held)
				}
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			freed := time.Now()
			until(t, "points again", func() bool { return points() > held+1000 })
			healed := time.Since(freed)
			until(t, "new devices again", func() bool { return connect(t, up) == http.StatusSwitchingProtocols })
			g.stop()
			a := l.settled(t, time.Minute, func(q string) ([]influxtest.Series, error) { return db.Query(context.Background(), q) })
			t.Logf("disk filled %s and freed: %v, took points again after %s", tt.name, a, healed.Round(10*time.Millisecond))
			wantWhole(t, a)
			if mended := strings.Contains(hub.stderr.String(), "embedded nats could not write; starting it again"); mended != tt.mended {
				t.Errorf("the bus was started again: %v, want %v", mended, tt.mended)
			}
		})
	}
}

// fill takes the space of the disk but for what is to be left.
func fill(t *testing.T, file, disk string, left int64) {
	t.Helper()
	free, err := bus.FreeBytes(disk)
	if err != nil {
		t.Fatal(err)
	}
	mustRun(t, "fallocate", "-l", strconv.FormatInt(free-left, 10), file)
}

// overfill takes whatever becomes free until the log takes no more, and for a while longer. It returns how many
// points were stored then.
func overfill(t *testing.T, file, disk string, up hubUp) float64 {
	t.Helper()
	fill(t, file, disk, 8<<20)
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	greedy := func() {
		for err = nil; err == nil; {
			_, err = f.Write(block)
		}
	}
	until(t, "the log to take no more", func() bool {
		greedy()
		return connect(t, up) == http.StatusServiceUnavailable
	})
	for end := time.Now().Add(faultTime); time.Now().Before(end); time.Sleep(pollEvery) {
		greedy()
	}
	return metric(t, up, "fairlead_ingest_points_total")
}

// wantPutOff fails unless a device that connects now is told to come back later.
func wantPutOff(t *testing.T, up hubUp) {
	t.Helper()
	if code := connect(t, up); code != http.StatusServiceUnavailable {
		t.Errorf("a new device was answered %d while the log takes nothing, want 503", code)
	}
}

// connect connects a device that is not on line yet, and returns the answer's status.
func connect(t *testing.T, up hubUp) int {
	t.Helper()
	ws, res, err := websocket.DefaultDialer.Dial(up.URL, http.Header{"Authorization": {"Bearer " + up.Tokens[len(up.Tokens)-1]}})
	if res == nil {
		t.Fatal(err)
	}
	if ws != nil {
		ws.Close()
	}
	return res.StatusCode
}
