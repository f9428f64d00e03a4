package broker

import (
	"strings"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"
)

// messageOverhead is what a kept message costs beside its bytes: mochi's packet and the entries that lead to it.
const messageOverhead = 1 << 10

// retained counts what is retained, in messages and in bytes. A place is taken before mochi keeps the message, so that
// publishers who come together cannot pass the limit together; settle then says what mochi really keeps.
type retained struct {
	mu    sync.Mutex
	sizes map[string]int // guarded by mu: by topic
	total int            // guarded by mu
}

func newRetained() *retained { return &retained{sizes: make(map[string]int)} }

// take makes room for a message of size bytes in the place of what its topic has. It fails if that does not fit.
func (r *retained) take(topic string, size int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, replaces := r.sizes[topic]
	if !replaces && len(r.sizes) >= MaxRetained || r.total-old+size > MaxRetainedBytes {
		return false
	}
	r.setLocked(topic, size)
	return true
}

// settle sets what topic holds to what kept says, which is asked under the lock: of two updates the later answer counts.
func (r *retained) settle(topic string, kept func(topic string) (packets.Packet, bool)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if pk, ok := kept(topic); ok {
		r.setLocked(topic, retainedSize(pk))
		return
	}
	r.setLocked(topic, 0)
}

func (r *retained) setLocked(topic string, size int) {
	r.total += size - r.sizes[topic]
	if size == 0 {
		delete(r.sizes, topic)
		return
	}
	r.sizes[topic] = size
}

// sizeOf is what keeping pk costs. The length on the wire counts its properties too; a will has none.
func sizeOf(pk packets.Packet) int {
	return messageOverhead + max(pk.FixedHeader.Remaining, len(pk.TopicName)+len(pk.Payload))
}

// retainedSize counts the nodes of mochi's tree too that a deep topic may need for itself.
func retainedSize(pk packets.Packet) int {
	return sizeOf(pk) + messageOverhead*max(0, levels(pk.TopicName)-usualLevels)
}

// usualLevels is how deep a topic may be that shares most of its nodes with others.
const usualLevels = 8

func levels(topic string) int { return 1 + strings.Count(topic, "/") }
