// Package fleets knows how existing MQTT fleets talk: which topics mean what, how a device is asked to do something,
// and by what one sees that it did.
//
// A Profile is a pure reader of messages: it holds what discovery told it and which commands wait for an answer, but
// it never touches a connection. The bridge subscribes, publishes, stores and registers what a Profile says.
package fleets

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// ErrNotMine says that a topic is not the profile's.
var ErrNotMine = errors.New("topic is not one of the profile")

// ErrUnsupported says that the device cannot be asked that, now or ever.
var ErrUnsupported = errors.New("command cannot be sent to this device")

// ErrBusy says that too many commands of the device wait for their answer.
var ErrBusy = errors.New("too many commands wait for this device's answer")

// Evidence says how it is known what became of a command.
type Evidence string

// The kinds of evidence, best first.
const (
	Confirmed Evidence = "confirmed" // a reply that names the command
	Observed  Evidence = "observed"  // the device's state now shows what was asked
	Assumed   Evidence = "assumed"   // published, and nothing can be seen
)

// Message is one message from a broker.
type Message struct {
	Topic    string
	Payload  []byte
	Retained bool // the broker's copy of an older message, not an event
	Received time.Time
	Author   string // the device that published it, as the fleet calls it; empty: somebody who may speak for all
}

// Presence is what a message says about a device being there.
type Presence uint8

// What a message can say.
const (
	Unsaid Presence = iota
	Online
	Offline
)

// Update is what a message says about one device.
type Update struct {
	Device   string // as the fleet calls it
	Labels   map[string]string
	Hello    wire.Hello
	Points   []wire.Point
	Presence Presence
	Cause    string // of Presence
	Answers  []Answer
	State    json.RawMessage // merge patch [RFC7396] of what it says it is
}

// Answer is an answer to a command, with how it is known.
type Answer struct {
	wire.Answer
	Evidence Evidence
}

// Result is what a message says.
type Result struct {
	Updates     []Update
	Subscribe   []string // filters that are now needed too
	Unsubscribe []string // filters of earlier results that are no longer needed
}

// Request is a command as it goes to the broker: QoS 1, never retained.
type Request struct {
	Topic   string
	Payload []byte
	Forget  func() // the request was not published; its answer is not waited for
}

// Profile reads one kind of fleet. It is safe for concurrent use.
type Profile interface {
	// Handle reads one message. It returns ErrNotMine, or a *Drop for a message that is the profile's and means nothing.
	Handle(m Message) (Result, error)
	// Command says how device, named as in Update, is asked to do c, and begins to wait for the answer.
	Command(device string, c wire.Command, now time.Time) (*Request, error)
	// Owner says whose a topic is, be it where a device publishes or where its commands go: that device, named as in Update;
	// nobody's yet, if the name is empty. It reports false if the topic is not the profile's.
	Owner(topic string) (device string, known bool)
}

// Options are what a profile needs to know of its connection.
type Options struct {
	Zone     *time.Location // of times that name none; nil is UTC
	MaxAge   time.Duration  // times older than this are wrong clocks
	MaxAhead time.Duration  // times further ahead than this too
}

// Topics are the filters of a profile.
type Topics struct {
	In       []string // what it subscribes to
	Commands []string // where its commands go
}

type entry struct {
	topics Topics
	open   func(Options) Profile
}

var known = map[string]entry{
	"tasmota": {tasmotaTopics, newTasmota},
}

// Names lists the profiles.
func Names() []string {
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// New returns the named profile and its topics.
func New(name string, o Options) (Profile, Topics, error) {
	e, ok := known[name]
	if !ok {
		return nil, Topics{}, fmt.Errorf("profile %q is not known; known are %v", name, Names())
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	return e.open(o), e.topics, nil
}
