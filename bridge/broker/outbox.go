package broker

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// The deadlines of writing.
const (
	writeTimeout = 10 * time.Second // one packet
	closeGrace   = time.Second      // what waits when a connection is closed, such as the reason for it
)

// chunkOverhead is what a packet that waits costs beside its bytes.
const chunkOverhead = 64

// outbox is what waits for a socket. mochi's own queue of a client is bounded in messages only, and mochi holds the
// client's lock while it writes, for which publishers to that client wait. So a write returns at once, and the bytes wait
// here, where they are counted; for whom too many wait gets no more messages (hook.hasRoom). One drainer at a time writes
// them, started on demand.
type outbox struct {
	// static after newTimedConn
	socket net.Conn
	all    *atomic.Int64 // bytes that wait in all outboxes

	drained sync.WaitGroup

	mu       sync.Mutex
	room     *sync.Cond // on mu
	chunks   [][]byte   // guarded by mu
	unsent   int        // guarded by mu
	draining bool       // guarded by mu
	closed   bool       // guarded by mu
}

func (o *outbox) add(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.closed && o.unsent >= MaxUnsentBytes { // only what mochi had queued before the client got no more
		o.room.Wait()
	}
	if o.closed {
		return 0, net.ErrClosed
	}
	o.chunks = append(o.chunks, append([]byte(nil), p...))
	o.countLocked(len(p) + chunkOverhead)
	if !o.draining {
		o.draining = true
		o.drained.Go(o.drain)
	}
	return len(p), nil
}

// waiting returns how many bytes wait here, and in all outboxes.
func (o *outbox) waiting() (here, all int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.unsent, int(o.all.Load())
}

func (o *outbox) drain() {
	for chunk := o.next(); chunk != nil; chunk = o.next() {
		_, err := o.socket.Write(chunk)
		o.sent(chunk, err)
	}
}

// next returns what to write, or nil when the drainer has nothing more to do.
func (o *outbox) next() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.chunks) == 0 {
		o.chunks, o.draining = nil, false
		if o.closed {
			_ = o.socket.Close()
		}
		return nil
	}
	chunk := o.chunks[0]
	o.chunks[0], o.chunks = nil, o.chunks[1:]
	if !o.closed {
		_ = o.socket.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
	return chunk
}

// sent ends the connection if the chunk could not be written: half a packet may be on the wire.
func (o *outbox) sent(chunk []byte, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.countLocked(-len(chunk) - chunkOverhead)
	if err != nil {
		o.countLocked(-o.unsent)
		o.chunks, o.closed = nil, true
	}
	o.room.Broadcast()
}

func (o *outbox) countLocked(n int) {
	o.unsent += n
	o.all.Add(int64(n))
}

// close closes the socket, or leaves that to the drainer, which has a last moment for what waits.
func (o *outbox) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	o.closed = true
	o.room.Broadcast()
	if !o.draining {
		return o.socket.Close()
	}
	_ = o.socket.SetReadDeadline(time.Unix(1, 0)) // nobody reads any more
	return o.socket.SetWriteDeadline(time.Now().Add(closeGrace))
}

// setReadDeadline leaves a closed connection's alone.
func (o *outbox) setReadDeadline(t time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return net.ErrClosed
	}
	return o.socket.SetReadDeadline(t)
}
