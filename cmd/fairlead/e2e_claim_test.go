package main_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// namesake is a hub of a name on a bus, with a data directory of its own; not started yet.
func namesake(t *testing.T, name, nats string) *hub {
	t.Helper()
	h := &hub{t: t, dir: t.TempDir(), listen: "127.0.0.1:0"}
	h.configure(fmt.Sprintf(`
node: %s
admin: {listen: "127.0.0.1:0"}
influx: {embedded_listen: "127.0.0.1:0"}
nats: {urls: [%q]}
bridge: {broker: {listen: ""}, connections: []}
`, name, nats))
	return h
}

const waits = "waiting until its claim runs out"

// Two hubs of one name would take each other's devices for their own: the second one is refused while the first lives,
// and not once it is gone.
func TestTwoHubsOfOneName(t *testing.T) {
	t.Parallel()
	nats := natsServer(t)
	first := namesake(t, "n1", nats)
	first.start()
	second := namesake(t, "n1", nats)
	code, _, stderr := run(t, second.command())
	if code != 1 || !strings.Contains(stderr, "fairlead: node name n1 is in use by another hub; set node to another name") {
		t.Errorf("second hub: exit code %d\n%s", code, stderr)
	}
	if first.ended() {
		t.Fatal("the first hub ended with the second")
	}
	other := namesake(t, "n2", nats) // the negative control
	other.start()
	other.stop()

	// Killed, it comes back at once: the claim is its own data directory's.
	first.kill()
	first.start()
	if said := first.stderr.String(); strings.Contains(said, waits) {
		t.Errorf("it waited for itself:\n%s", said)
	}

	// Stopped, it leaves its name to whoever wants it.
	first.stop()
	second.start()
	if said := second.stderr.String(); strings.Contains(said, waits) {
		t.Errorf("a hub that stopped kept its name:\n%s", said)
	}
	second.stop()
}

// A copy of a data directory has the same identity. It takes the name over, and the original, which would share it unknowingly,
// ends and says why.
func TestCopyOfADataDirectory(t *testing.T) {
	t.Parallel()
	nats := natsServer(t)
	original := namesake(t, "n1", nats)
	original.start()
	twin := namesake(t, "n1", nats)
	if out, err := exec.Command("cp", "-r", original.file("data"), twin.file("data")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	twin.start()
	if code := original.wait(); code != 1 || !strings.Contains(original.stderr.String(), "in use by another hub, on a copy of this data directory") {
		t.Errorf("the original: exit code %d\n%s", code, original.stderr.String())
	}
	twin.stop()
}
