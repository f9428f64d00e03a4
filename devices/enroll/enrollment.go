// Package enroll lets devices make their own records: an operator gives a fleet one secret, and each device that shows it,
// together with a key that it proves to hold, gets a record with that key.
//
// A secret is good for a number of devices and for a time. The count is kept in the enrollment itself and changed only by
// compare and set, so that it is exact however many devices come at once, on whichever node. A slot is taken before the
// record is made; what a node that died in between had taken comes back after a minute.
package enroll

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/devices/wire"
)

// The bounds of enrollments.
const (
	MaxEnrollments = 1000
	MaxDevices     = 100_000
	MaxTTL         = 366 * 24 * time.Hour
	MinTTL         = time.Minute

	// maxTaking bounds the slots whose record is not seen yet, takingGrace is when such a slot is looked into.
	maxTaking   = 256
	takingGrace = time.Minute

	idLength = 10
)

var (
	// ErrUnknown says that there is no such enrollment.
	ErrUnknown = errors.New("there is no such enrollment")
	// ErrTooMany says that there are as many enrollments as there may be.
	ErrTooMany = errors.New("there are as many enrollments as there may be")
	// ErrNotPending says that the device does not wait for approval under this enrollment.
	ErrNotPending = errors.New("no such device waits under this enrollment")
)

// Enrollment is what a secret lets devices do. The secret itself is nowhere kept.
type Enrollment struct {
	ID         string            `json:"id"`
	Labels     map[string]string `json:"labels,omitempty"`
	Prefix     string            `json:"prefix,omitempty"` // of the ids that devices may choose
	MaxDevices int               `json:"max_devices"`
	Approve    bool              `json:"approve,omitempty"` // devices wait for an operator
	Actor      string            `json:"actor"`
	Created    time.Time         `json:"created"`
	Expires    time.Time         `json:"expires"`
	Used       int               `json:"used"` // devices that it was used for, or is being

	Hash   []byte `json:"hash"` // of the secret
	Last   uint64 `json:"last,omitempty"`
	Taking []slot `json:"taking,omitempty"`

	revision uint64
}

// slot is a place that a device has taken, until its record shows that it is used: a record keeps the number of the slot
// that it was made with, so that no two can be made with one, and none is given back that was used.
type slot struct {
	Number uint64    `json:"number"`
	Device string    `json:"device"`
	Key    string    `json:"key"` // as PEM
	Since  time.Time `json:"since"`
}

// New is an enrollment to be made.
type New struct {
	Labels     map[string]string
	Prefix     string
	MaxDevices int
	TTL        time.Duration
	Approve    bool
	Actor      string
}

// newEnrollment checks n and makes an enrollment of it, and the secret.
func newEnrollment(n New, now time.Time) (*Enrollment, string, error) {
	switch {
	case n.MaxDevices < 1 || n.MaxDevices > MaxDevices:
		return nil, "", &devices.Fault{Path: "max_devices", Detail: fmt.Sprintf("max_devices is %d, want 1 to %d", n.MaxDevices, MaxDevices)}
	case n.TTL < MinTTL || n.TTL > MaxTTL:
		return nil, "", &devices.Fault{Path: "ttl", Detail: fmt.Sprintf("ttl is %s, want %s to %s", n.TTL, MinTTL, MaxTTL)}
	case n.Prefix != "" && wire.CheckID(n.Prefix) != nil:
		return nil, "", &devices.Fault{Path: "prefix", Detail: "prefix: no device id can begin so: " + wire.CheckID(n.Prefix).Error()}
	}
	if err := devices.CheckLabels(n.Labels); err != nil {
		return nil, "", err
	}
	e := &Enrollment{
		ID: strings.ToLower(rand.Text()[:idLength]), Labels: maps.Clone(n.Labels), Prefix: n.Prefix, MaxDevices: n.MaxDevices,
		Approve: n.Approve, Actor: n.Actor, Created: now.UTC().Truncate(time.Millisecond),
		Expires: now.Add(n.TTL).UTC().Truncate(time.Millisecond),
	}
	secret := e.ID + "." + rand.Text()
	e.Hash = digest(secret)
	return e, secret, nil
}

// digest need not be slow: a secret holds 130 random bits.
func digest(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// fits reports whether secret is the enrollment's, in a time that does not depend on how much of it is right.
func (e *Enrollment) fits(secret string) bool {
	return subtle.ConstantTimeCompare(e.Hash, digest(secret)) == 1
}

// idOf is the enrollment that a secret says it belongs to.
func idOf(secret string) (string, bool) {
	id, rest, ok := strings.Cut(secret, ".")
	return id, ok && checkID(id) && rest != "" && len(secret) <= 64
}

func checkID(id string) bool {
	return len(id) == idLength && !strings.ContainsFunc(id, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '2' || r > '7') })
}

// at returns the place of a device's slot, or -1.
func (e *Enrollment) at(device string) int {
	return slices.IndexFunc(e.Taking, func(s slot) bool { return s.Device == device })
}

// spent reports whether rec was made with s.
func (e *Enrollment) spent(s slot, rec *devices.Record) bool {
	return rec.Enrollment == e.ID && rec.Slot == s.Number
}
