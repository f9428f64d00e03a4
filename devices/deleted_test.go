package devices_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// remove deletes a device's record.
func (h *hub) remove(device string) {
	h.t.Helper()
	if err := h.records.Delete(h.t.Context(), device, 0); err != nil {
		h.t.Fatal(err)
	}
}

// kept reports whether the bucket of presence holds the device.
func (h *hub) kept(device string) bool {
	h.t.Helper()
	_, err := bucket(h.t, h.bus, bus.BucketPresence).Get(h.t.Context(), device)
	if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		h.t.Fatal(err)
	}
	return err == nil
}

// A device that is deleted while it is on line goes off line everywhere, and what was known of it goes with it, whichever
// node deletes it.
func TestDeletedDeviceIsForgottenByEveryNode(t *testing.T) {
	t.Parallel()
	one, two := twoNodes(t)
	for name, by := range map[string]*hub{"here": one, "there": two} {
		stays, goes := "stays-"+name, "goes-"+name
		kept, c := one.connect(one.device(stays)), one.connect(one.device(goes))
		for _, device := range []string{stays, goes} {
			eventually(t, "both are known", func() bool {
				_, ok := two.records.Record(device)
				return ok && two.presence.Status(device) == devices.Online
			})
		}
		next := two.listen()
		by.remove(goes)
		c.wantClose(devices.CloseRevoked)
		kept.ws.Close()
		next("the deleted one is off line", func(e liveEvent) bool { return e.Device == goes && e.Status == "offline" && e.Cause == "revoked" })
		for _, h := range []*hub{one, two} {
			eventually(t, "nobody knows the deleted one", func() bool { return h.presence.Status(goes) == devices.Never })
			eventually(t, "the other one is only off line", func() bool { return h.presence.Status(stays) == devices.Offline })
		}
		eventually(t, "its key is gone", func() bool { return !one.kept(goes) })
		if !one.kept(stays) {
			t.Error("the key of the other is gone too")
		}
		// The next device of the id begins anew.
		two.connect(two.device(goes))
		for _, h := range []*hub{one, two} {
			eventually(t, "the new one is known", func() bool { node, online := h.presence.Node(goes); return online && node == "n2" })
			if st := h.presence.State(goes); st.Flaps != 0 {
				t.Errorf("it goes on where the old one ended: %+v", st)
			}
		}
	}
}

// A device that is deleted while its node is lost is forgotten too.
func TestDeletedDeviceOfALostNode(t *testing.T) {
	t.Parallel()
	one, two := twoNodes(t)
	one.presence.Set("plug", true, "announced", "mqtt:embedded") // it has no record
	one.device("other")
	one.presence.Set("other", true, "announced", "mqtt:embedded")
	eventually(t, "they are known", func() bool {
		_, ok := two.records.Record("other")
		return ok && two.presence.Status("plug") == devices.Online && two.presence.Status("other") == devices.Online
	})
	one.stop() // and nobody says that they are off line
	next := two.listen()
	two.presence.Lose("n1")
	next("it is told", func(e liveEvent) bool { return e.Device == "plug" && e.Status == "offline" })
	eventually(t, "it is forgotten", func() bool { return two.presence.Status("plug") == devices.Never && !two.kept("plug") })
	if st := two.presence.State("other"); st.Status != devices.Offline || !two.kept("other") {
		t.Errorf("%+v", st)
	}
}

// A node that forgets a device late, when the next one of its id is there already, takes nothing from that one.
func TestLateForgettingTakesNothing(t *testing.T) {
	t.Parallel()
	one, two := twoNodes(t)
	c := one.connect(one.device("pump-7"))
	one.connect(one.device("gone-7")).ws.Close()
	eventually(t, "both are known", func() bool {
		return two.presence.Status("pump-7") == devices.Online && two.presence.Status("gone-7") == devices.Offline && two.kept("gone-7")
	})
	late := func(device string, epoch uint64) {
		t.Helper()
		_, err := two.bus.JetStream().PublishMsg(t.Context(), &nats.Msg{
			Subject: "$KV." + bus.BucketPresence + "." + device, Header: nats.Header{"KV-Operation": {"DEL"}},
			Data: fmt.Appendf(nil, `{"epoch":%d}`, epoch),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	epoch := one.presence.State("pump-7").Epoch
	for _, e := range []uint64{epoch - 1, epoch, epoch + 1} {
		late("pump-7", e)
		eventually(t, "its key is back", func() bool { return two.kept("pump-7") })
		eventually(t, "it is where it was", func() bool {
			st := two.presence.State("pump-7")
			return st.Status == devices.Online && st.Session == c.welcome.Session
		})
	}
	// One that is off line, and no newer, is what the marker means.
	late("gone-7", one.presence.State("gone-7").Epoch)
	for _, h := range []*hub{one, two} {
		eventually(t, "it is forgotten", func() bool { return h.presence.Status("gone-7") == devices.Never })
	}
}

// Who listens hears that a deleted device went, also where there is only one node.
func TestListenersHearThatADeletedDeviceWent(t *testing.T) {
	t.Parallel()
	h := startHub(t)
	next := h.listen()
	for i := range 20 {
		device := fmt.Sprint("pump-", i)
		c := h.connect(h.device(device))
		next("it is there", func(e liveEvent) bool { return e.Device == device && e.Status == "online" })
		h.remove(device)
		c.wantClose(devices.CloseRevoked)
		next("it went", func(e liveEvent) bool { return e.Device == device && e.Status == "offline" })
		eventually(t, "it is forgotten", func() bool { return h.presence.Status(device) == devices.Never })
	}
}

// What a node stored of a device that was deleted while the node was down goes to nobody, whichever node reads it: not even
// to the next device of that id.
func TestDeletedDeviceStaysForgotten(t *testing.T) {
	t.Parallel()
	for _, reader := range []string{"n1", "n2"} {
		t.Run(reader, func(t *testing.T) {
			t.Parallel()
			b := openBus(t, t.TempDir())
			t.Cleanup(func() { b.Close() })
			on := func(node string) *hub { return startHub(t, func(o *options) { o.bus, o.node = b, node }) }
			h := on("n1")
			for _, device := range []string{"stays", "goes"} {
				h.connect(h.device(device)).ws.Close()
				eventually(t, "it is off line", func() bool { return h.presence.Status(device) == devices.Offline })
			}
			stop(t, h)
			if err := bucket(t, b, bus.BucketDevices).Delete(t.Context(), "goes"); err != nil {
				t.Fatal(err)
			}
			fresh := func(when string) {
				t.Helper()
				if st := h.presence.State("goes"); st.Status != devices.Never || !st.LastSeen.IsZero() {
					t.Errorf("%s: %+v", when, st)
				}
				if st := h.presence.State("stays"); st.Status != devices.Offline || st.Cause != "lost" {
					t.Errorf("%s the other is lost: %+v", when, st)
				}
			}
			h = on(reader)
			fresh("after the start")
			h.device("goes")
			fresh("once it is made anew")
			stop(t, h)
			h = on(reader)
			fresh("after another start")
		})
	}
}

func stop(t *testing.T, h *hub) {
	t.Helper()
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
}
