//go:build chaos

package main_test

import (
	"strings"
	"syscall"
	"testing"
)

// The name of a hub that was killed for good is free once its claim has run out.
func TestKilledHubLeavesItsName(t *testing.T) {
	t.Parallel()
	nats := natsServer(t)
	first, second := namesake(t, "n1", nats), namesake(t, "n1", nats)
	first.start()
	first.kill()
	second.start()
	if said := second.stderr.String(); !strings.Contains(said, waits) {
		t.Errorf("a claim that may have been alive was not waited for:\n%s", said)
	}
	second.stop()
}

// A hub that stood still until another took its name ends when it goes on.
func TestChaosHubThatStoodStill(t *testing.T) {
	t.Parallel()
	nats := natsServer(t)
	first, second := namesake(t, "n1", nats), namesake(t, "n1", nats)
	first.start()
	first.signal(syscall.SIGSTOP)
	second.start()
	first.signal(syscall.SIGCONT)
	if code := first.wait(); code != 1 || !strings.Contains(first.stderr.String(), "in use by another hub, which took it") {
		t.Errorf("the first: exit code %d\n%s", code, first.stderr.String())
	}
	second.stop()
}
