package devices

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"sync"
	"time"

	"github.com/fairlead-hub/fairlead/devices/auth"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/problem"
)

// The bounds of telemetry that is posted.
const (
	postsPerDevice = 4
	// bodyWait bounds how long a body may be in coming, storeWait how long the log may take to store it.
	bodyWait  = 10 * time.Second
	storeWait = 10 * time.Second
)

// What becomes of a post, for metrics.
const (
	postStored   = "stored"
	postRejected = "rejected"
	postRefused  = "refused"
)

// Uplink is the endpoint for devices that wake, send and sleep: POST /v1/device/telemetry stores one body and answers
// once it is stored.
type Uplink struct {
	*Handler

	slots    chan struct{}
	quota    *postQuota
	wait     time.Duration // for the log
	bodyWait time.Duration

	mu   sync.Mutex
	busy map[string]int // posts in flight by device; at most as many devices as slots
}

// NewUplink returns the endpoint beside h, with the same verifier, log and refusals.
func NewUplink(h *Handler) *Uplink {
	return &Uplink{
		Handler: h, slots: make(chan struct{}, max(h.cfg.MaxPosts, 1)), wait: storeWait, bodyWait: bodyWait,
		quota: newPostQuota(h.rates, h.started), busy: make(map[string]int),
	}
}

// ServeHTTP stores the body's points; 204 says that they are on disk.
func (u *Uplink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := u.post(w, r)
	if p == nil {
		u.metrics.posts.WithLabelValues(postStored).Inc()
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if p.Status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	finishBody(w, r)
	u.tell(w, p)
}

// The bounds of what is read of a refused body.
const (
	finishWait  = time.Second
	finishBytes = 1 << 20
)

// finishBody reads what is left of a refused body: closing a connection with unread bytes resets it, and the device would
// never see why it was refused.
func finishBody(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(finishWait)) // as for the body itself
	_, _ = io.CopyN(io.Discard, r.Body, finishBytes)
}

// post takes a request from its headers to the log.
func (u *Uplink) post(w http.ResponseWriter, r *http.Request) *problem.Document {
	media, p := u.screenPost(r)
	if p != nil {
		return u.refused(p)
	}
	select {
	case u.slots <- struct{}{}:
	default:
		return u.refused(refuse503(refusePosts, "this node stores as many posts as it may at once"))
	}
	job, p := u.admit(w, r, media)
	if p != nil {
		<-u.slots
		return u.refused(p)
	}
	done := make(chan error, 1)
	go job.run(done) // joined by Registry.Run, which waits for leave; it gives the slot back
	patience := time.NewTimer(u.wait)
	defer patience.Stop()
	select {
	case err := <-done:
		return u.outcome(err)
	case <-patience.C:
	case <-r.Context().Done():
	}
	close(job.quit)
	return u.refused(refuse503(refuseLog, "not stored in time").
		WithHint("send it again; points that carry a time are stored once"))
}

// refused counts a request that was refused before its points were looked at.
func (u *Uplink) refused(p *problem.Document) *problem.Document {
	u.metrics.posts.WithLabelValues(postRefused).Inc()
	u.metrics.refuse(p.Code)
	return p
}

// outcome says what the device is told of its points.
func (u *Uplink) outcome(err error) *problem.Document {
	var rej *wire.Reject
	switch {
	case err == nil:
		return nil
	case errors.As(err, &rej):
		u.metrics.posts.WithLabelValues(postRejected).Inc()
		u.metrics.reject(rej.Code)
		return problem.New(http.StatusBadRequest, string(rej.Code), clip(rej.Message)).WithPath(clip(rej.Path))
	}
	u.log.Warn("posted telemetry not taken", keyErr, err)
	return u.refused(refuse503(refuseDraining, "this node is shutting down"))
}

// medium is what a body is.
type medium struct {
	codec     wire.Codec
	precision time.Duration
}

var media = map[string]wire.Codec{
	"application/json": wire.JSON, "application/cbor": wire.CBOR, "application/senml+json": wire.SenML,
	"application/senml+cbor": wire.SenMLCBOR, "text/plain": wire.Lines,
}

var precisions = map[string]time.Duration{
	"": time.Nanosecond, "ns": time.Nanosecond, "us": time.Microsecond, "ms": time.Millisecond, "s": time.Second,
}

// screenPost looks at the headers before anything costly is done.
func (u *Uplink) screenPost(r *http.Request) (m medium, p *problem.Document) {
	if r.Method != http.MethodPost {
		return m, problem.New(http.StatusMethodNotAllowed, refuseMethod, "want POST")
	}
	if p := u.screenAny(r); p != nil {
		return m, p
	}
	name, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	codec, known := media[name]
	if err != nil || !known || r.Header.Get("Content-Encoding") != "" {
		return m, problem.New(http.StatusUnsupportedMediaType, refuseMedia, "the body is of no type that is understood").
			WithHint("send application/json, application/cbor, application/senml+json, application/senml+cbor, or line protocol as text/plain; not compressed")
	}
	if r.ContentLength > int64(u.cfg.FrameBytes) {
		return m, tooBig()
	}
	precision, known := precisions[r.URL.Query().Get("precision")]
	if !known {
		return m, refuse400(string(wire.InvalidTime), "precision is none of ns, us, ms, s").WithPath("precision")
	}
	return medium{codec, precision}, nil
}

func tooBig() *problem.Document {
	return problem.New(http.StatusRequestEntityTooLarge, refuseTooBig, "the body is over the limit of a frame").
		WithHint("send fewer points at a time")
}

// admit checks who posts, and reads the body. What it returns holds the places that it takes.
func (u *Uplink) admit(w http.ResponseWriter, r *http.Request, m medium) (*posted, *problem.Document) {
	var req request
	if p := bearer(r, &req); p != nil {
		return nil, p
	}
	claims, err := u.verifier.Verify(req.token)
	if err != nil {
		return nil, refuseToken(err)
	}
	if p := u.binding.check(r.TLS, claims.Device); p != nil {
		return nil, p
	}
	rec, ok := u.records.Record(claims.Device)
	if !ok {
		return nil, refuseToken(&auth.Refusal{Code: auth.UnknownDevice, Detail: "the device was deleted"})
	}
	if wait := u.quota.wait(claims.Device, u.now()); wait > 0 {
		retryAfter(w, wait)
		return nil, refuse429(refuseQuota, "this device sends more than it may in a second")
	}
	if !u.enter() {
		return nil, refuse503(refuseDraining, "this node is shutting down")
	}
	if !u.take(claims.Device) {
		u.leave()
		return nil, refuse429(refusePosts, "this device has as many posts under way as it may")
	}
	job := newPosted(u, claims.Device, rec.Labels, m)
	if p := job.read(w, r); p != nil {
		u.give(claims.Device)
		job.scratch.release()
		u.leave()
		return nil, p
	}
	u.presence.heard(claims.Device, addressText(u.proxies.remote(r)))
	return job, nil
}

// take and give count a device's posts under way.
func (u *Uplink) take(device string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.busy[device] >= postsPerDevice {
		return false
	}
	u.busy[device]++
	return true
}

func (u *Uplink) give(device string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.busy[device]--; u.busy[device] == 0 {
		delete(u.busy, device)
	}
}
