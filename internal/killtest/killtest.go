// Package killtest kills a part of the hub with signal 9 in the middle of its work. The part runs as a child of its test: the
// test's own binary, started again with an environment variable that names the directory both know.
package killtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// patience bounds the life of a child.
const patience = 2 * time.Minute

// Child runs the part if this process was started to be killed, and reports whether it was. TestMain asks it first. run prints
// a line once it is at work.
func Child(env string, run func(dir string) error) bool {
	dir := os.Getenv(env)
	if dir == "" {
		return false
	}
	if err := run(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// Once starts the part, lets it work for a while and kills it. It must not end by itself.
func Once(t testing.TB, env, dir string, after time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), env+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !bufio.NewScanner(out).Scan() {
		t.Fatal("the child did not start:", cmd.Wait())
	}
	<-time.After(after) // how far it gets is chance, and meant to be
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
		t.Fatal("the child ended by itself:", err)
	}
}
