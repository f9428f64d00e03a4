package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
)

// Verification is what a walk along the whole chain found.
type Verification struct {
	Whole    bool   `json:"whole"`    // from the oldest record kept to the newest
	Complete bool   `json:"complete"` // and the oldest one kept is the first that there was
	Records  int    `json:"records"`
	First    int64  `json:"first,omitempty"` // time of the oldest record kept
	Last     int64  `json:"last,omitempty"`
	Before   string `json:"before,omitempty"`  // hash of the record before the oldest one kept
	Dropped  uint64 `json:"dropped,omitempty"` // messages before that of the oldest record, each of one record or more
	Head     string `json:"head,omitempty"`    // hash of the newest record; note it elsewhere, and a cut end shows
	Fault    string `json:"fault,omitempty"`
}

// errBroken says where the chain breaks.
type errBroken struct{ text string }

func (e *errBroken) Error() string { return e.text }

// Verify walks the audit log and holds every record against its hash and the one before, and the messages against their
// numbers. What was removed before the oldest record kept, as the stream's limits of age and bytes do, or somebody with the
// bus in hand, cannot be checked; that there was something is told.
func (a *API) Verify(ctx context.Context) (Verification, error) {
	c := chain{found: Verification{Whole: true, Complete: true}}
	last, err := a.audit.walk(ctx, c.check)
	if err == nil && c.seq < last {
		err = &errBroken{fmt.Sprintf("the newest messages, %d to %d, are missing", c.seq+1, last)}
	}
	if broken := (*errBroken)(nil); errors.As(err, &broken) {
		c.found.Whole, c.found.Complete, c.found.Fault = false, false, broken.text
		return c.found, nil
	}
	return c.found, err
}

// chain is the state of a walk.
type chain struct {
	found Verification
	seq   uint64
}

func (c *chain) check(seq uint64, records []Record) error {
	if c.seq != 0 && seq != c.seq+1 {
		return &errBroken{fmt.Sprintf("message %d is missing", c.seq+1)}
	}
	c.seq = seq
	for _, rec := range records {
		sum, err := rec.sum()
		if err != nil {
			return err
		}
		n := c.found.Records + 1
		if sum != rec.Hash {
			return &errBroken{fmt.Sprintf("record %d, in message %d, is not what was hashed", n, seq)}
		}
		if n == 1 {
			c.found.First, c.found.Before, c.found.Dropped = rec.Time, rec.Prev, seq-1
			c.found.Complete = rec.Prev == "" && seq == 1
		} else if rec.Prev != c.found.Head {
			return &errBroken{fmt.Sprintf("the record before record %d, in message %d, is missing or another one", n, seq)}
		}
		c.found.Records, c.found.Last, c.found.Head = n, rec.Time, rec.Hash
	}
	return nil
}

// walk reads all messages in order. It returns the sequence number that the newest one has.
func (l *auditLog) walk(ctx context.Context, f func(seq uint64, records []Record) error) (last uint64, err error) {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("read audit log: %w", err)
	}
	last = info.State.LastSeq
	if info.State.Msgs == 0 {
		return last, nil
	}
	c, err := l.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{InactiveThreshold: auditTimeout})
	if err != nil {
		return 0, fmt.Errorf("read audit log: %w", err)
	}
	msgs, err := c.Messages()
	if err != nil {
		return 0, fmt.Errorf("read audit log: %w", err)
	}
	defer msgs.Stop()
	for {
		msg, err := msgs.Next(jetstream.NextContext(ctx))
		if err != nil {
			return 0, fmt.Errorf("read audit log: %w", err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return 0, fmt.Errorf("read audit log: %w", err)
		}
		var records []Record
		if err := json.Unmarshal(msg.Data(), &records); err != nil {
			return last, &errBroken{fmt.Sprintf("message %d is not a list of records", meta.Sequence.Stream)}
		}
		if err := f(meta.Sequence.Stream, records); err != nil {
			return last, err
		}
		if meta.Sequence.Stream >= last || meta.NumPending == 0 {
			return last, nil
		}
	}
}

// list returns records newest first, from the cursor of an earlier call.
func (l *auditLog) list(ctx context.Context, p Page) (records []Record, cursor string, err error) {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("read audit log: %w", err)
	}
	records = []Record{}
	if info.State.Msgs == 0 {
		return records, "", nil
	}
	seq, index := info.State.LastSeq, -1
	if p.Cursor != "" {
		if seq, index, err = parseAuditCursor(p.Cursor, seq); err != nil {
			return nil, "", err
		}
	}
	for ; seq >= max(info.State.FirstSeq, 1); seq, index = seq-1, -1 {
		batch, err := l.message(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		if index < 0 || index >= len(batch) {
			index = len(batch) - 1
		}
		for ; index >= 0; index-- {
			if len(records) == p.Limit {
				return records, auditCursor(seq, index), nil
			}
			records = append(records, batch[index])
		}
	}
	return records, "", nil
}

func auditCursor(seq uint64, index int) string {
	return strconv.FormatUint(seq, 36) + "-" + strconv.FormatInt(int64(index), 36)
}

func parseAuditCursor(s string, last uint64) (uint64, int, error) {
	var seq, index string
	for i := range len(s) {
		if s[i] == '-' {
			seq, index = s[:i], s[i+1:]
			break
		}
	}
	n, err := strconv.ParseUint(seq, 36, 64)
	if err != nil || n == 0 || n > last {
		return 0, 0, ErrInvalidCursor
	}
	i, err := strconv.ParseInt(index, 36, 32)
	if err != nil || i < 0 || i >= auditBatch {
		return 0, 0, ErrInvalidCursor
	}
	return n, int(i), nil
}
