package main

import (
	"os"
	"runtime"
	"testing"
)

// A second hub in the process adds no more, and is told the same.
func TestProcessors(t *testing.T) {
	n := processors()
	want := n + spareProcessors
	if os.Getenv("GOMAXPROCS") != "" {
		want = n
	}
	if got := runtime.GOMAXPROCS(0); got != want {
		t.Errorf("%d of Go's processors on %d, want %d", got, n, want)
	}
	if again := processors(); again != n || runtime.GOMAXPROCS(0) != want {
		t.Errorf("asked again: %d on %d, want %d on %d", runtime.GOMAXPROCS(0), again, want, n)
	}
}
