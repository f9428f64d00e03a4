package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// Record is one line of the audit log. Hash is the SHA-256 of the record's JSON without Hash, and Prev is the Hash of
// the record before, so that none can be changed, removed from the middle or put in later without breaking the chain.
type Record struct {
	Time    int64  `json:"time"`
	Actor   string `json:"actor"`
	Remote  string `json:"remote,omitempty"`
	Session string `json:"session,omitempty"` // first characters of the console session's hash
	Action  string `json:"action"`
	Target  string `json:"target,omitempty"` // device, operator or command
	Outcome string `json:"outcome"`          // ok, or the code of the refusal
	Status  int    `json:"status,omitempty"`
	Detail  string `json:"detail,omitempty"`
	Node    string `json:"node,omitempty"`
	Prev    string `json:"prev"`
	Hash    string `json:"hash,omitempty"`
}

func (r Record) sum() (string, error) {
	r.Hash = ""
	data, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode audit record: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

const (
	// auditPending bounds the records that wait for the disk.
	auditPending = 4096
	// auditBatch bounds the records of one message of the stream.
	auditBatch = 256
	// auditTimeout is how long a change waits for its record, whether its caller is still there or not.
	auditTimeout = 10 * time.Second
	// auditRetries bounds the tries against other nodes that append at the same time.
	auditRetries = 16
	// maxAuditText bounds what a caller can put into a record.
	maxAuditText = 512
)

// auditLog appends records to the AUDIT stream. Records that arrive while one message is being synced share the next
// one. Whoever waits may be the one who writes, so the log has no goroutine of its own.
type auditLog struct {
	// static after New
	js     jetstream.JetStream
	stream jetstream.Stream
	node   string
	now    func() time.Time

	mu      sync.Mutex
	pending []*pendingRecord // guarded by mu

	turn chan struct{} // holds one: whoever may write
	// owned by the holder of turn
	loaded  bool
	lastSeq uint64
	prev    string
}

type pendingRecord struct {
	rec  Record
	done chan error // of 1
}

func openAudit(js jetstream.JetStream, stream jetstream.Stream, node string, now func() time.Time) *auditLog {
	return &auditLog{js: js, stream: stream, node: node, now: now, turn: make(chan struct{}, 1)}
}

// append returns once rec is on disk.
func (l *auditLog) append(ctx context.Context, rec Record) error {
	rec.Time, rec.Node = l.now().UnixMilli(), l.node
	for _, text := range []*string{&rec.Actor, &rec.Remote, &rec.Action, &rec.Target, &rec.Outcome, &rec.Detail} {
		*text = clip(*text)
	}
	p := &pendingRecord{rec: rec, done: make(chan error, 1)}
	l.mu.Lock()
	if len(l.pending) >= auditPending {
		l.mu.Unlock()
		return fmt.Errorf("%w: %d records wait", ErrAuditUnavailable, auditPending)
	}
	l.pending = append(l.pending, p)
	l.mu.Unlock()
	for {
		select {
		case err := <-p.done:
			return err
		case l.turn <- struct{}{}:
			l.commit(ctx)
			<-l.turn
		}
	}
}

// clip bounds a text, and makes UTF-8 of it: other bytes would come back from JSON as something else, and the record
// would look as if somebody had changed it.
func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxAuditText)], "\ufffd")
}

// commit writes what waits. It runs with turn held, and with a deadline of its own: the records are others' too.
func (l *auditLog) commit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	l.mu.Lock()
	n := min(len(l.pending), auditBatch)
	batch := l.pending[:n:n]
	l.pending = l.pending[n:]
	l.mu.Unlock()
	if n == 0 {
		return
	}
	err := l.write(ctx, batch)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrAuditUnavailable, err)
	}
	for _, p := range batch {
		p.done <- err
	}
}

func (l *auditLog) write(ctx context.Context, batch []*pendingRecord) error {
	records := make([]Record, len(batch))
	for i, p := range batch {
		records[i] = p.rec
	}
	for range auditRetries {
		if err := l.load(ctx); err != nil {
			return err
		}
		prev := l.prev
		for i := range records {
			records[i].Prev = prev
			sum, err := records[i].sum()
			if err != nil {
				return err
			}
			records[i].Hash, prev = sum, sum
		}
		stored, err := l.publish(ctx, records, prev)
		if stored || err != nil {
			return err
		}
	}
	return errors.New("append to audit log: other nodes were always first")
}

// publish reports whether the records are stored; false without an error means that another node was first.
func (l *auditLog) publish(ctx context.Context, records []Record, last string) (bool, error) {
	data, err := json.Marshal(records)
	if err != nil {
		return false, fmt.Errorf("encode audit records: %w", err)
	}
	// The id lets a repeat after a lost answer be recognised by the stream.
	ack, err := l.js.Publish(ctx, bus.AuditSubject(), data, jetstream.WithExpectLastSequence(l.lastSeq), jetstream.WithMsgID(last))
	if err == nil {
		l.lastSeq, l.prev = ack.Sequence, last
		return true, nil
	}
	l.loaded = false // what the stream holds now is not known
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return false, nil
	}
	return false, fmt.Errorf("append to audit log: %w", err)
}

// load learns the end of the chain.
func (l *auditLog) load(ctx context.Context) error {
	if l.loaded {
		return nil
	}
	info, err := l.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("read end of audit log: %w", err)
	}
	l.lastSeq, l.prev = info.State.LastSeq, ""
	msg, err := l.stream.GetLastMsgForSubject(ctx, bus.AuditSubject())
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("read end of audit log: %w", err)
	}
	if err == nil {
		records, err := decodeRecords(msg)
		if err != nil {
			return err
		}
		l.prev = records[len(records)-1].Hash
	}
	l.loaded = true
	return nil
}

// message reads the records of one message of the stream.
func (l *auditLog) message(ctx context.Context, seq uint64) ([]Record, error) {
	msg, err := l.stream.GetMsg(ctx, seq)
	if err != nil {
		return nil, fmt.Errorf("read audit log at %d: %w", seq, err)
	}
	return decodeRecords(msg)
}

func decodeRecords(msg *jetstream.RawStreamMsg) ([]Record, error) {
	var records []Record
	if err := json.Unmarshal(msg.Data, &records); err != nil {
		return nil, fmt.Errorf("read audit log at %d: %w", msg.Sequence, err)
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("read audit log at %d: the message is empty", msg.Sequence)
	}
	return records, nil
}
