package sim

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Uplink is how devices reach their hub. One Uplink serves a whole fleet; it holds nothing of a single device.
type Uplink struct {
	URL     string // as from DeviceURL
	TLS     *tls.Config
	Codec   wire.Codec
	Tokens  TokenSource
	Backoff Backoff
	Drain   time.Duration // after the end of the context: the time to get acks for what is held; 0: 5 s
	Log     *slog.Logger  // nil: nothing is logged
	Counts  *Counters     // nil: a fleet or replay makes its own

	complaints complaints
}

const defaultDrain = 5 * time.Second

// prepare fills in what may be left out.
func (u *Uplink) prepare() error {
	if u.URL == "" || u.Tokens == nil {
		return errors.New("uplink: a hub URL and a token source are needed")
	}
	u.Backoff = u.Backoff.withDefaults()
	if u.Drain <= 0 {
		u.Drain = defaultDrain
	}
	if u.Log == nil {
		u.Log = slog.New(slog.DiscardHandler)
	}
	if u.Counts == nil {
		u.Counts = &Counters{}
	}
	return nil
}

// Log keys.
const (
	keyDevice  = "device_id"
	keyError   = "err"
	keyCode    = "code"
	keyReason  = "reason"
	keyWait    = "wait"
	keyVersion = "version"
)

// complaints keeps a fleet that loses its hub from logging a line for each device: one a second is told at Warn, with
// how many were not.
type complaints struct {
	last   atomic.Int64
	silent atomic.Int64
}

func (u *Uplink) complain(message string, attrs ...any) {
	now, last := time.Now().UnixNano(), u.complaints.last.Load()
	if now-last < int64(time.Second) || !u.complaints.last.CompareAndSwap(last, now) {
		u.complaints.silent.Add(1)
		u.Log.Debug(message, attrs...)
		return
	}
	if n := u.complaints.silent.Swap(0); n > 0 {
		attrs = append(attrs, "more_like_it", n)
	}
	u.Log.Warn(message, attrs...)
}
