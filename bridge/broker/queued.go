package broker

import "sync"

// queued counts the bytes that wait in sessions for an acknowledgement of their clients, message by message, as mochi
// tells of them. What it does not tell of (a message given up because a write queue is full, or left behind by a
// takeover) is counted too long rather than too short, and found by reconcile.
type queued struct {
	mu       sync.Mutex
	sessions map[string]*account // guarded by mu: by client id; only those that hold something
	total    int                 // guarded by mu
}

// account is what waits in one session.
type account struct {
	sizes map[uint16]int // by packet id
	held  int
}

func newQueued() *queued { return &queued{sessions: make(map[string]*account)} }

// set says that message id of a session takes size bytes from now on; 0 is for one that is gone.
func (q *queued) set(client string, id uint16, size int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.setLocked(client, id, size)
}

// shrink says that of a message no more than that it was there is kept.
func (q *queued) shrink(client string, id uint16) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if a, ok := q.sessions[client]; ok && a.sizes[id] > 0 {
		q.setLocked(client, id, messageOverhead)
	}
}

func (q *queued) setLocked(client string, id uint16, size int) {
	a, ok := q.sessions[client]
	if !ok {
		if size == 0 {
			return
		}
		a = &account{sizes: make(map[uint16]int)}
		q.sessions[client] = a
	}
	change := size - a.sizes[id]
	a.held += change
	q.total += change
	if size > 0 {
		a.sizes[id] = size
		return
	}
	delete(a.sizes, id)
	if len(a.sizes) == 0 {
		delete(q.sessions, client)
	}
}

// held returns what waits in one session and in all.
func (q *queued) held(client string) (session, total int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if a, ok := q.sessions[client]; ok {
		session = a.held
	}
	return session, q.total
}

// clients returns who is waited for.
func (q *queued) clients() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	ids := make([]string, 0, len(q.sessions))
	for id := range q.sessions {
		ids = append(ids, id)
	}
	return ids
}

// reconcile forgets the messages of a session that are not there any more.
func (q *queued) reconcile(client string, there func(id uint16) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a, ok := q.sessions[client]
	if !ok {
		return
	}
	for id := range a.sizes {
		if !there(id) {
			q.setLocked(client, id, 0)
		}
	}
}
