package devices

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/auth"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Bounds of a record.
const (
	MaxLabels      = 32
	MaxLabelValue  = 256
	MaxKeys        = 8
	MaxNotes       = 4096
	MaxHelloText   = 128
	MaxCommands    = 64
	MaxCommandName = 64
	MaxSchemaBytes = 16 << 10
	MaxHelloBytes  = 48 << 10
)

// ErrInvalid says that a record, a hello or a selector breaks its bounds; the message names the part.
var ErrInvalid = errors.New("invalid")

// Fault is an ErrInvalid with the part that breaks its bounds, as labels.site or keys.
type Fault struct{ Path, Detail string }

// Error returns the detail behind ErrInvalid's text.
func (f *Fault) Error() string { return ErrInvalid.Error() + ": " + f.Detail }

// Unwrap returns ErrInvalid.
func (f *Fault) Unwrap() error { return ErrInvalid }

func fault(path, format string, args ...any) error {
	return &Fault{Path: path, Detail: fmt.Sprintf(format, args...)}
}

// Key is a public key that a device holds the private half of, as PEM.
type Key struct {
	KID string `json:"kid"`
	Alg string `json:"alg"`
	PEM string `json:"pem"`
}

// NewKey reads a public key given as PEM or JWK.
func NewKey(kid, text string) (Key, error) {
	k, err := auth.ParsePublicKey(kid, text)
	if err != nil {
		return Key{}, fault("public_key", "%s", err)
	}
	pem, err := k.PEM()
	if err != nil {
		return Key{}, err
	}
	return Key{KID: k.KID(), Alg: k.Alg(), PEM: pem}, nil
}

// Record is what the hub durably knows of a device. Records handed out are shared: change a Clone.
type Record struct {
	ID              string             `json:"id"`
	Labels          map[string]string  `json:"labels,omitempty"`
	Keys            []Key              `json:"keys,omitempty"`
	Disabled        bool               `json:"disabled,omitempty"`
	Created         time.Time          `json:"created"`
	TokensNotBefore time.Time          `json:"tokens_not_before,omitzero"`
	Model           string             `json:"model,omitempty"`
	Firmware        string             `json:"firmware,omitempty"`
	Commands        []wire.CommandSpec `json:"commands,omitempty"`
	Announced       bool               `json:"announced,omitempty"` // the device said which commands it knows
	Notes           string             `json:"notes,omitempty"`
	ExpectEvery     time.Duration      `json:"expect_every,omitempty"` // telemetry; 0: as configured, below 0: never
	Enrollment      string             `json:"enrollment,omitempty"`   // that the device made its record with
	Slot            uint64             `json:"enrollment_slot,omitempty"`
	Pending         bool               `json:"pending,omitempty"` // not allowed on line before an operator approves

	// Revision is the record's place in its bucket; Update refuses another one.
	Revision uint64 `json:"-"`

	search string            // lower case, what q looks in
	keys   []*auth.PublicKey // parsed Keys
}

// Clone returns a copy that shares nothing that changes.
func (r *Record) Clone() *Record {
	c := *r
	c.Labels = maps.Clone(r.Labels)
	c.Keys = slices.Clone(r.Keys)
	c.Commands = slices.Clone(r.Commands)
	return &c
}

// born sets when the record was made: now, unless an import says when. No record is made in the future: until then no
// token would be good for the device. Tokens are dated to the millisecond, and so are records.
func (r *Record) born(now time.Time) {
	if r.Created.IsZero() || r.Created.After(now) {
		r.Created = now.UTC()
	}
	r.Created = r.Created.Truncate(time.Millisecond)
}

// TokensFrom is from when on tokens are good for the device.
func (r *Record) TokensFrom() time.Time {
	if r.TokensNotBefore.After(r.Created) {
		return r.TokensNotBefore
	}
	return r.Created
}

// Spec returns what the device announced of a command.
func (r *Record) Spec(command string) (spec wire.CommandSpec, known bool) {
	for _, c := range r.Commands {
		if c.Name == command {
			return c, true
		}
	}
	return wire.CommandSpec{}, false
}

// check reports the first bound that the record breaks.
func (r *Record) check() error {
	if err := wire.CheckID(r.ID); err != nil {
		return fault("id", "%s", err)
	}
	if err := CheckLabels(r.Labels); err != nil {
		return err
	}
	if len(r.Keys) > MaxKeys {
		return fault("keys", "%d keys, at most %d are allowed", len(r.Keys), MaxKeys)
	}
	if len(r.Notes) > MaxNotes || !utf8.ValidString(r.Notes) {
		return fault("notes", "notes: more than %d bytes, or not UTF-8", MaxNotes)
	}
	if e := r.ExpectEvery; e > 0 && (e < configs.LeastExpect || e > configs.MostExpect) {
		return fault("expect_every", "telemetry is expected every %s: want %s to %s", e, configs.LeastExpect, configs.MostExpect)
	}
	if err := checkText(r.Model, MaxHelloText); err != nil {
		return fault("model", "model: %s", err)
	}
	if err := checkText(r.Firmware, MaxHelloText); err != nil {
		return fault("firmware", "firmware: %s", err)
	}
	return nil
}

// CheckLabels reports the first bound that labels break; the error is ErrInvalid.
func CheckLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return fault("labels", "%d labels, at most %d are allowed", len(labels), MaxLabels)
	}
	for k, v := range labels {
		if !isLabel(k) {
			return fault("labels."+k, "label %q: use A-Z a-z 0-9 _ . -, starting with a letter or _, at most 64 characters", k)
		}
		if err := checkText(v, MaxLabelValue); err != nil {
			return fault("labels."+k, "label %s: %s", k, err)
		}
		// The value becomes a tag of every point: InfluxDB would read the backslash as an escape.
		if v == "" || strings.HasSuffix(v, `\`) {
			return fault("labels."+k, "label %s: its value is empty, or ends in a backslash", k)
		}
	}
	return nil
}

// isLabel reports whether k may name a label: the grammar of tag keys, so that a label can become a tag.
func isLabel(k string) bool {
	for i := range len(k) {
		c := k[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '.' && c != '-') {
			return false
		}
	}
	return k != "" && len(k) <= 64
}

func checkText(s string, most int) error {
	if len(s) > most {
		return fmt.Errorf("%d bytes, at most %d are allowed", len(s), most)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("not UTF-8, or has control characters")
	}
	return nil
}

// prepare parses the keys, taking over those of old that have not changed, and makes the text that q searches.
func (r *Record) prepare(old *Record) error {
	r.keys = make([]*auth.PublicKey, 0, len(r.Keys))
	for _, k := range r.Keys {
		p := old.parsed(k)
		if p == nil {
			var err error
			if p, err = auth.ParsePublicKey(k.KID, k.PEM); err != nil {
				return fault("keys", "key %s: %s", k.KID, err)
			}
		}
		for _, other := range r.keys {
			if other.KID() == p.KID() {
				return fault("keys", "two keys with kid %s", k.KID)
			}
		}
		r.keys = append(r.keys, p)
	}
	parts := make([]string, 0, 3+len(r.Labels))
	parts = append(parts, r.ID, r.Model, r.Firmware)
	for _, v := range r.Labels {
		parts = append(parts, v)
	}
	r.search = strings.ToLower(strings.Join(parts, "\n"))
	return nil
}

func (r *Record) parsed(k Key) *auth.PublicKey {
	if r == nil {
		return nil
	}
	for i, was := range r.Keys {
		if was == k && i < len(r.keys) {
			return r.keys[i]
		}
	}
	return nil
}

// apply puts what a device said of itself into the record and reports whether that changed it.
func (r *Record) apply(h *wire.Hello) bool {
	announced := h.Commands != nil
	same := r.Firmware == h.Firmware && r.Model == h.Model && r.Announced == announced &&
		slices.EqualFunc(r.Commands, h.Commands, sameSpec)
	if same {
		return false
	}
	r.Firmware, r.Model, r.Commands, r.Announced = h.Firmware, h.Model, h.Commands, announced
	return true
}

func sameSpec(a, b wire.CommandSpec) bool {
	return a.Name == b.Name && a.Title == b.Title && a.Dangerous == b.Dangerous && string(a.Params) == string(b.Params)
}

// checkHello reports the first bound that a hello breaks.
func checkHello(h *wire.Hello) error {
	if err := checkText(h.Firmware, MaxHelloText); err != nil {
		return fmt.Errorf("firmware: %w", err)
	}
	if err := checkText(h.Model, MaxHelloText); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	if len(h.Commands) > MaxCommands {
		return fmt.Errorf("%d commands, at most %d are allowed", len(h.Commands), MaxCommands)
	}
	total := 0
	for i, c := range h.Commands {
		if c.Name == "" || checkText(c.Name, MaxCommandName) != nil || checkText(c.Title, MaxHelloText) != nil {
			return fmt.Errorf("commands[%d]: name or title is empty, too long or not plain text", i)
		}
		if len(c.Params) > MaxSchemaBytes || len(c.Params) > 0 && !json.Valid(c.Params) {
			return fmt.Errorf("commands[%d].params: more than %d bytes, or not JSON", i, MaxSchemaBytes)
		}
		for _, other := range h.Commands[:i] {
			if other.Name == c.Name {
				return fmt.Errorf("commands[%d]: %q twice", i, c.Name)
			}
		}
		if total += len(c.Name) + len(c.Title) + len(c.Params); total > MaxHelloBytes {
			return fmt.Errorf("commands: more than %d bytes in all", MaxHelloBytes)
		}
	}
	return nil
}
