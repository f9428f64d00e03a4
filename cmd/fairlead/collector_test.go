package main

import (
	"context"
	"io/fs"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

func TestGarbagePercent(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		alive, room uint64
		want        int
	}{
		{0, 128 * mib, 1600},
		{1 * mib, 128 * mib, 1600},
		{16 * mib, 128 * mib, 800},
		{64 * mib, 128 * mib, 200},
		{128 * mib, 128 * mib, 100},
		{4096 * mib, 128 * mib, 100},
	} {
		if got := garbagePercent(tt.alive, tt.room); got != tt.want {
			t.Errorf("%d bytes alive, room for %d: %d %%, want %d", tt.alive, tt.room, got, tt.want)
		}
	}
}

func TestGarbageRoom(t *testing.T) {
	const v2, v1, machine = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/proc/meminfo"
	for _, tt := range []struct {
		what  string
		files map[string]string
		want  uint64
	}{
		{"nothing is known", nil, 64 << 20},
		{"a large machine", map[string]string{machine: "MemTotal:       24588708 kB\nMemFree: 1 kB\n", v2: "max\n"}, 64 << 20},
		{"a board of 1 GiB", map[string]string{machine: "MemTotal:        1048576 kB\n"}, 32 << 20},
		{"a container of 512 MiB", map[string]string{machine: "MemTotal: 24588708 kB\n", v2: "536870912\n"}, 16 << 20},
		{"the same, an older kernel", map[string]string{machine: "MemTotal: 24588708 kB\n", v1: "536870912\n"}, 16 << 20},
		{"no limit, an older kernel", map[string]string{v1: "9223372036854771712\n"}, 64 << 20},
	} {
		got := garbageRoom(func(name string) ([]byte, error) {
			if text, ok := tt.files[name]; ok {
				return []byte(text), nil
			}
			return nil, fs.ErrNotExist
		})
		if got != tt.want {
			t.Errorf("%s: room for %d bytes, want %d", tt.what, got, tt.want)
		}
	}
}

// The control is the runtime as it is.
func TestCollectorRunsSeldom(t *testing.T) {
	t.Setenv("GOGC", "")
	alone := collections()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tuneCollector(ctx) }()
	tuned := collections()
	for until := time.Now().Add(10 * time.Second); 3*tuned > 2*alone && time.Now().Before(until); tuned = collections() {
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if 3*tuned > 2*alone {
		t.Errorf("%d collections with room for garbage, %d without", tuned, alone)
	}
	// Not counted again: while others keep the processors busy a collection takes longer, and what is made meanwhile stays.
	percent := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	if metrics.Read(percent); percent[0].Value.Uint64() != garbageLeast {
		t.Errorf("GOGC is %d after it ended, want %d as before it began", percent[0].Value.Uint64(), garbageLeast)
	}
}

var kept []byte // so that the compiler leaves the garbage be

// collections is how often garbage was collected while a gigabyte of it was made.
func collections() uint32 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 64 << 10 {
		kept = make([]byte, 16<<10)
	}
	runtime.ReadMemStats(&after)
	return after.NumGC - before.NumGC
}
