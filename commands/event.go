package commands

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// kind is what an entry of the log says.
type kind string

// The kinds of entries. Each is a proposal: what it does to the command is decided by lifecycle.go at its place in
// the log, where it may turn out to be void.
const (
	created  kind = "created"   // an operator asked
	sending  kind = "sending"   // this node may now write the frame
	unsent   kind = "unsent"    // this node did not write it, and gives the permission back
	sent     kind = "sent"      // the socket write returned
	accept   kind = "accept"    // the device has it
	progress kind = "progress"  // the device works on it
	result   kind = "result"    // the device is done
	expired  kind = "expired"   // the time to live ended
	timedOut kind = "timed_out" // no answer in time
	cancel   kind = "cancel"    // an operator took it back
	approve  kind = "approve"   // a second operator agreed
)

// entry is one event as the log keeps it.
type entry struct {
	Kind     kind   `json:"kind"`
	ID       string `json:"id,omitempty"` // absent in created, whose id is its place
	Time     int64  `json:"time"`
	Node     string `json:"node,omitempty"`
	Session  string `json:"session,omitempty"`
	Epoch    uint64 `json:"epoch,omitempty"`
	Actor    string `json:"actor,omitempty"`
	Evidence string `json:"evidence,omitempty"`
	Detail   string `json:"detail,omitempty"`
	Attempt  int    `json:"attempt,omitempty"`
	Basis    int    `json:"basis,omitempty"` // timed_out: the revision it was decided on
	Try      int    `json:"try,omitempty"`   // of sending to result: how many tries came before the one meant
	Gone     bool   `json:"gone,omitempty"`  // of cancel: the device was deleted

	Order  *order  `json:"order,omitempty"`  // of created
	Answer *answer `json:"answer,omitempty"` // of accept, progress, result
}

// order is what was asked.
type order struct {
	Suffix     string          `json:"suffix"`
	Name       string          `json:"name"`
	Params     json.RawMessage `json:"params,omitempty"`
	Expires    int64           `json:"expires"`
	TimeoutMS  int64           `json:"timeout_ms"`
	OnlineOnly bool            `json:"online_only,omitempty"`
	Grant      string          `json:"grant,omitempty"` // this node may write it at once
	Key        string          `json:"key,omitempty"`   // digest of actor and idempotency key
	Body       string          `json:"body,omitempty"`  // digest of the request, with Key

	NotBefore int64  `json:"not_before,omitempty"` // it is not written before
	Urgency   int    `json:"urgency,omitempty"`    // its priority above DefaultPriority
	Tries     int    `json:"tries,omitempty"`      // at most; 0 is 1
	DelayMS   int64  `json:"delay_ms,omitempty"`   // between two tries
	Approval  bool   `json:"approval,omitempty"`   // a second operator must agree
	Job       string `json:"job,omitempty"`        // that it is part of
	Born      int64  `json:"born,omitempty"`       // when the device's record was made: no other device of the id gets it
}

// answer is what the device said.
type answer struct {
	Percent float64         `json:"percent,omitempty"`
	Message string          `json:"message,omitempty"`
	OK      bool            `json:"ok,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *wire.Fault     `json:"error,omitempty"`
}

func (a *answer) progress() *Progress { return &Progress{Percent: a.Percent, Message: a.Message} }

// message is one message of the log: events of one device, in order. From and N number the messages of one run of one
// node, so that a message published twice, because its first ack was lost, counts once.
type message struct {
	From   string  `json:"from"`
	N      uint64  `json:"n"`
	Events []entry `json:"events"`
}

// encode leaves out the escapes that JSON needs only in a page: with them a device's answer could be six times as long
// as its frame was, and not fit the log.
func (m *message) encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return nil, fmt.Errorf("encode command events: %w", err)
	}
	return b.Bytes(), nil
}

func decodeMessage(data []byte) (*message, error) {
	m := new(message)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("decode command log: %w", err)
	}
	return m, nil
}

// size is about what e takes in the log, and so not less than what it takes in memory.
func (e *entry) size() int {
	n := entryOverhead + encodedLen(e.Detail) + encodedLen(e.Actor)
	if e.Order != nil {
		n += entryOverhead + len(e.Order.Params)
	}
	if e.Answer != nil {
		n += len(e.Answer.Result) + encodedLen(e.Answer.Message)
		if e.Answer.Error != nil {
			n += encodedLen(e.Answer.Error.Message) + encodedLen(e.Answer.Error.Code)
		}
	}
	return n
}

// encodedLen is at most how long the log writes s: JSON makes six bytes of one that it must escape.
func encodedLen(s string) int {
	n := len(s)
	for _, r := range s {
		switch {
		case r < ' ', r == utf8.RuneError, r == '\u2028', r == '\u2029':
			n += 5
		case r == '"', r == '\\':
			n++
		}
	}
	return n
}

// entryOverhead is what an entry takes beside its texts.
const entryOverhead = 256
