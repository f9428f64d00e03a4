package devices_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices"
)

// A node that was not heard for longer than its lease is lost with its devices; when it is back, so are they, as they were.
// One that went to another node meanwhile stays there.
func TestLostNodeReturns(t *testing.T) {
	t.Parallel()
	one, two := twoNodes(t)
	stays := one.connect(one.device("stays"))
	one.connect(one.device("moves"))
	one.presence.Set("plug", true, "announced", "mqtt:embedded")
	at := func(device, node string) bool {
		got, online := two.presence.Node(device)
		return online && got == node
	}
	eventually(t, "all are known", func() bool { return at("stays", "n1") && at("moves", "n1") && at("plug", "n1") })
	was := two.presence.State("stays")
	lost := func(device string) bool {
		st := two.presence.State(device)
		return st.Status == devices.Offline && st.Cause == "node_lost"
	}
	eventually(t, "all are lost with their node", func() bool {
		two.presence.Lose("n1") // which it may contradict at any time
		return lost("stays") && lost("moves") && lost("plug")
	})
	eventually(t, "the record is everywhere", func() bool { _, ok := two.records.Record("moves"); return ok })
	fresh := two.connect(two.token("moves"))

	eventually(t, "those that are still there are back with the node's next beat", func() bool { return at("stays", "n1") && at("plug", "n1") })
	if st := two.presence.State("stays"); st.Cause != was.Cause || !st.Since.Equal(was.Since) || st.Epoch != was.Epoch || st.Session != stays.welcome.Session {
		t.Errorf("%+v, was %+v", st, was)
	}
	if st := two.presence.State("moves"); st.Node != "n2" || st.Session != fresh.welcome.Session {
		t.Errorf("%+v", st)
	}
}

// Who listens hears that the devices of a lost node are off line, and that they are back with it, whichever node is lost.
func TestListenersHearOfALostNode(t *testing.T) {
	t.Parallel()
	one, two := twoNodes(t)
	for _, c := range []struct {
		node        string
		stays, goes *hub
	}{{"n1", two, one}, {"n2", one, two}} {
		device := "on-" + c.node
		c.goes.connect(c.goes.device(device))
		eventually(t, "the other node knows", func() bool { return c.stays.presence.Status(device) == devices.Online })
		next := c.stays.listen()
		c.stays.presence.Lose(c.node)
		next("off line", func(e liveEvent) bool {
			if e.Device == device && e.Status == "online" {
				c.stays.presence.Lose(c.node) // it was heard in between
			}
			return e.Device == device && e.Status == "offline" && e.Cause == "node_lost" && e.Node == c.node
		})
		next("on line again", func(e liveEvent) bool { return e.Device == device && e.Status == "online" && e.Node == c.node })
	}
}

// Nodes that never come back are not remembered without end.
func TestLostNodesAreBounded(t *testing.T) {
	t.Parallel()
	_, two := twoNodes(t)
	_, most := two.presence.LostNodes()
	for i := range 2 * most {
		two.presence.Lose(fmt.Sprint("gone-", i))
	}
	if n, _ := two.presence.LostNodes(); n != most {
		t.Errorf("%d lost nodes are remembered, want %d", n, most)
	}
}

// A device whose node is taken for lost posts at another one, which then has it, off line. The node with the socket knows
// better.
func TestPostsDoNotTakeADeviceFromItsSocket(t *testing.T) {
	t.Parallel()
	one, two := twoNodes(t)
	c := one.connect(one.expecting("pump-7", time.Hour, nil))
	eventually(t, "it is known", func() bool { node, online := two.presence.Node("pump-7"); return online && node == "n1" })
	told := two.listen()
	eventually(t, "the post comes while the node is lost", func() bool {
		two.presence.Lose("n1")
		if a := two.post(two.token("pump-7"), "text/plain", "m a=1"); a.status != 204 {
			t.Fatalf("%+v", a)
		}
		st := two.presence.State("pump-7")
		return st.Status == devices.Offline && st.Node == "n2"
	})
	told("it is told as off line", func(e liveEvent) bool { return e.Status == "offline" && e.Node == "n2" })
	for _, h := range []*hub{one, two} {
		eventually(t, "it is where its socket is", func() bool {
			st := h.presence.State("pump-7")
			return st.Status == devices.Online && st.Node == "n1" && st.Session == c.welcome.Session
		})
	}
	c.send(point(1))
	c.wantAck(1)
}
