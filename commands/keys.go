package commands

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"
)

// keyring remembers the idempotency keys of the last 24 hours. They are kept in the log with the commands they made,
// and nowhere else: so a key is durable in the moment its command is, and two nodes that take the same key at the same
// time agree on whose command it is, the first in the log.
type keyring struct {
	made    map[string]*keyed // guarded by Router.mu, like all of it
	byAge   []*keyed
	pending map[string]chan struct{} // on their way into the log; closed when there
}

// keyed is what a key stands for.
type keyed struct {
	key, body, id string
	seq           uint64
	time          int64
}

func newKeyring() keyring {
	return keyring{made: make(map[string]*keyed), pending: make(map[string]chan struct{})}
}

// claim gives the key of a created entry to its command, unless another has it.
func (k *keyring) claim(e *entry, id string, seq uint64) bool {
	if e.Order.Key == "" {
		return true
	}
	oldest := e.Time - keyKeep.Milliseconds()
	k.forget(oldest)
	if v := k.made[e.Order.Key]; v != nil && v.time >= oldest {
		return false
	}
	v := &keyed{key: e.Order.Key, body: e.Order.Body, id: id, seq: seq, time: e.Time}
	k.made[v.key] = v
	k.byAge = append(k.byAge, v)
	return true
}

// forget drops what was made before a time, and the oldest above the limit.
func (k *keyring) forget(before int64) {
	for len(k.byAge) > 0 && (k.byAge[0].time < before || len(k.byAge) >= maxKeys) {
		if v := k.byAge[0]; k.made[v.key] == v {
			delete(k.made, v.key)
		}
		k.byAge[0] = nil
		k.byAge = k.byAge[1:]
	}
}

// find returns what a key stands for now, or nil.
func (k *keyring) find(key string, now time.Time) *keyed {
	if v := k.made[key]; v != nil && v.time >= now.Add(-keyKeep).UnixMilli() {
		return v
	}
	return nil
}

// lowest is the sequence of the oldest key that may still count, 0 if there is none. It drops nothing: what counts
// is decided by the times in the log, the same on every node.
func (k *keyring) lowest(now time.Time) uint64 {
	oldest := now.Add(-keyKeep - time.Hour).UnixMilli()
	for _, v := range k.byAge {
		if v.time >= oldest {
			return v.seq
		}
	}
	return 0
}

func (r *Router) rememberKeys(l *logged) {
	for i := range l.Events {
		if e := &l.Events[i]; e.Kind == created && e.Order != nil {
			r.keys.claim(e, formatID(l.seq, e.Order.Suffix), l.seq)
		}
	}
}

// digests are what the log keeps of an idempotency key: whose it is, and of which request.
func digests(q *Request, o *order) (key, body string) {
	if q.IdempotencyKey == "" {
		return "", ""
	}
	key = digest(q.Actor, q.IdempotencyKey)
	parts := []string{
		q.Device, q.Name, string(o.Params), strconv.FormatInt(int64(q.TTL), 10),
		strconv.FormatBool(q.OnlineOnly), strconv.FormatInt(int64(q.Timeout), 10),
	}
	if !q.NotBefore.IsZero() || o.Urgency != 0 || o.Tries > 0 {
		parts = append(parts, strconv.FormatInt(q.NotBefore.UnixMilli(), 10), strconv.Itoa(o.Urgency),
			strconv.Itoa(o.Tries), strconv.FormatInt(o.DelayMS, 10))
	}
	return key, digest(parts...)
}

func digest(parts ...string) string {
	// A list of strings as JSON: no two lists look alike.
	text, _ := json.Marshal(parts)
	sum := sha256.Sum256(text)
	return base64.RawStdEncoding.EncodeToString(sum[:18])
}
