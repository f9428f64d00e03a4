package main

import (
	"bytes"
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"time"
)

// The room that garbage has.
const (
	// garbageBytes may pile up before it is collected. The runtime alone would collect once as much is garbage as is alive:
	// of a small hub some 20 MB, so several times a second under load, and each time acks and commands wait. Twice as much
	// brings nothing more, and what stays, as sessions do, is then scattered among what went.
	garbageBytes = 64 << 20
	// garbageShare bounds that on a small machine: one part of so many of its memory.
	garbageShare = 32
	// garbageLeast and garbageMost bound the runtime's GOGC, per cent of what is alive: it begins with 100.
	garbageLeast, garbageMost = 100, 1600

	collectorEvery = time.Second
)

// tuneCollector keeps the room for garbage as what is alive grows and shrinks, until ctx ends. Who sets GOGC knows better;
// GOMEMLIMIT holds in any case.
func tuneCollector(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		<-ctx.Done()
		return nil
	}
	room := garbageRoom(os.ReadFile)
	alive := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(collectorEvery)
	defer tick.Stop()
	now := garbageLeast
	defer func() { debug.SetGCPercent(garbageLeast) }()
	for {
		metrics.Read(alive)
		// To set it stops the world for a moment, so small changes are let be.
		if want := garbagePercent(alive[0].Value.Uint64(), room); want < now*9/10 || want > now*11/10 {
			now = want
			debug.SetGCPercent(now)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// garbagePercent is the GOGC that leaves room for so much garbage beside what is alive.
func garbagePercent(alive, room uint64) int {
	return int(min(max(100*room/max(alive, 1), garbageLeast), garbageMost))
}

// garbageRoom is garbageBytes, or less where memory is small: of the machine, or of the container.
func garbageRoom(read func(string) ([]byte, error)) uint64 {
	room := uint64(garbageBytes)
	// Control groups, version 2 and 1. A file that is not there, or says "max", sets no limit.
	for _, name := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if text, err := read(name); err == nil {
			room = smaller(room, bytes.TrimSpace(text), 1)
		}
	}
	if text, err := read("/proc/meminfo"); err == nil { // begins with "MemTotal:       24588708 kB"
		if words := bytes.Fields(text); len(words) > 1 {
			room = smaller(room, words[1], 1<<10)
		}
	}
	return room
}

func smaller(room uint64, memory []byte, unit uint64) uint64 {
	n, err := strconv.ParseUint(string(memory), 10, 64)
	if err != nil {
		return room
	}
	return min(room, n/garbageShare*unit)
}
