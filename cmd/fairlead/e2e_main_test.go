package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// binary is the program that all tests here start; TestMain builds it.
var binary string

// The bounds of the whole package: nothing in it waits longer.
const (
	startBound = 60 * time.Second
	stopBound  = 60 * time.Second
	waitBound  = 40 * time.Second
	pollEvery  = 10 * time.Millisecond
)

// TestMain builds the program once; under -race the program is a race-checked one too.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "fairlead-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "fairlead")
		args := []string{"build", "-o", binary}
		if raceEnabled {
			args = append(args, "-race")
		}
		if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build fairlead: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// until polls done until it is true, or fails the test.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(waitBound)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain: %s", waitBound, what)
		}
		time.Sleep(pollEvery)
	}
}
