package bridge

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-hub/fairlead/bridge/fleets"
	"github.com/fairlead-hub/fairlead/configs"
)

// State is what a connection is doing.
type State string

// The states of a connection.
const (
	StateConnecting State = "connecting"
	StateConnected  State = "connected"
	StateDown       State = "down"
	StateStopped    State = "stopped"
)

// maxTopics is how many topics of a connection are remembered.
const maxTopics = 1000

// Status is what operators see of one connection. Times are Unix milliseconds.
type Status struct {
	Name       string        `json:"name"`
	URL        string        `json:"url"`
	Profiles   []string      `json:"profiles,omitempty"`
	State      State         `json:"state"`
	Since      int64         `json:"since"`
	Epoch      uint64        `json:"epoch"`
	LastError  string        `json:"last_error,omitempty"`
	ErrorTime  int64         `json:"error_time,omitempty"`
	Received   uint64        `json:"received"`
	Acked      uint64        `json:"acked"`
	Published  uint64        `json:"published"`
	Dropped    uint64        `json:"dropped"`
	Topics     []TopicStatus `json:"topics,omitempty"`
	MoreTopics uint64        `json:"more_topics,omitempty"` // messages of topics beyond those remembered
}

// TopicStatus is what was seen of one topic.
type TopicStatus struct {
	Topic     string `json:"topic"`
	Mapped    bool   `json:"mapped"`
	Messages  uint64 `json:"messages"`
	Dropped   uint64 `json:"dropped,omitempty"`
	LastTime  int64  `json:"last_time"`
	LastError string `json:"last_error,omitempty"`
}

// status collects a connection's Status.
type status struct {
	acked     atomic.Uint64
	published atomic.Uint64

	mu     sync.Mutex
	s      Status                  // guarded by mu
	topics map[string]*TopicStatus // guarded by mu
}

func newStatus(cfg configs.Connection) *status {
	url := cfg.URL
	if u, err := parseURL(cfg.URL); err == nil {
		url = u.Redacted()
	}
	return &status{
		s:      Status{Name: cfg.Name, URL: url, Profiles: cfg.Profiles, State: StateDown, Since: time.Now().UnixMilli()},
		topics: make(map[string]*TopicStatus),
	}
}

func (s *status) set(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.s.State != state {
		s.s.State, s.s.Since = state, time.Now().UnixMilli()
	}
}

func (s *status) connected(epoch uint64) {
	s.set(StateConnected)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.Epoch = epoch
}

func (s *status) fail(err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.LastError, s.s.ErrorTime = err.Error(), time.Now().UnixMilli()
}

// seen counts a message.
func (s *status) seen(topic string, mapped bool, why *fleets.Drop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.Received++
	if why != nil {
		s.s.Dropped++
	}
	t := s.topics[topic]
	if t == nil {
		if len(s.topics) >= maxTopics {
			s.s.MoreTopics++
			return
		}
		t = &TopicStatus{Topic: topic}
		s.topics[topic] = t
	}
	t.Messages++
	t.Mapped = t.Mapped || mapped
	t.LastTime = time.Now().UnixMilli()
	if why != nil {
		t.Dropped++
		t.LastError = why.Error()
	}
}

func (s *status) snapshot() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.s
	out.Acked, out.Published = s.acked.Load(), s.published.Load()
	out.Topics = make([]TopicStatus, 0, len(s.topics))
	for _, t := range s.topics {
		out.Topics = append(out.Topics, *t)
	}
	slices.SortFunc(out.Topics, func(a, b TopicStatus) int { return cmp.Compare(a.Topic, b.Topic) })
	return out
}
