package enroll

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/internal/problem"
)

// The bounds of a request.
const (
	maxBody     = 16 << 10
	bodyWait    = 10 * time.Second
	enrollWait  = 10 * time.Second
	maxInFlight = 64 // of a node; whose body has come
	retryLeast  = 5  // seconds
	retryJitter = 10
)

// Event is an enrollment, or a refused one, as the audit log keeps it.
type Event struct {
	Enrollment, Device, Remote string

	Outcome string // ok, or the code of the refusal
	Status  int
}

// Auditor keeps events. It fails if one is not on disk.
type Auditor interface {
	Enrolled(ctx context.Context, e Event) error
}

// Handler is POST /v1/enroll.
type Handler struct {
	enrollments *Enrollments
	opts        HandlerOptions
	metrics     *metrics
	limit       *limit
	bodies      *bodies
	slots       chan struct{}
}

// HandlerOptions are the parts that a handler works with.
type HandlerOptions struct {
	Auth      configs.Auth
	Plaintext bool                           // the listener speaks HTTP
	Address   func(*http.Request) netip.Addr // where a request comes from, behind whatever stands between
	Audit     Auditor
	Log       *slog.Logger
	Metrics   prometheus.Registerer
}

// NewHandler returns the endpoint of the enrollments.
func NewHandler(e *Enrollments, o HandlerOptions) *Handler {
	return &Handler{
		enrollments: e, opts: o, metrics: newMetrics(o.Metrics), limit: newLimit(o.Auth.EnrollsPerMinute), bodies: newBodies(),
		slots: make(chan struct{}, maxInFlight),
	}
}

// answer is what an enrolled device is told: who it is, and all that it needs to sign its tokens and connect.
type answer struct {
	Device   told   `json:"device"`
	KID      string `json:"kid"`
	Alg      string `json:"alg"`
	Audience string `json:"audience"`
	Issuer   string `json:"issuer"`      // of the hub's own tokens
	URL      string `json:"url"`         // where to connect
	TokenTTL int64  `json:"token_ttl_s"` // longest life of a token
	Time     int64  `json:"time"`
}

type told struct {
	ID      string            `json:"id"`
	Labels  map[string]string `json:"labels"`
	Pending bool              `json:"pending"`
	Created int64             `json:"created"`
}

// ServeHTTP answers 201 with the record made, 200 if it was made before, 202 while it waits for an operator.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out, p := h.serve(w, r)
	if p != nil {
		h.metrics.requests.WithLabelValues(p.Code).Inc()
		h.refuse(w, p)
		return
	}
	h.metrics.requests.WithLabelValues(out.code).Inc()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(statusOf(out.code))
	_ = json.NewEncoder(w).Encode(h.answer(r, out)) // the device may be gone; it asks again
}

func statusOf(code string) int {
	switch code {
	case codeEnrolled:
		return http.StatusCreated
	case codePending:
		return http.StatusAccepted
	}
	return http.StatusOK
}

func (h *Handler) refuse(w http.ResponseWriter, p *problem.Document) {
	p.Time = h.enrollments.now().UnixMilli()
	switch p.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", strconv.Itoa(retryLeast+rand.N(retryJitter)))
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodPost)
	}
	p.Write(w)
}

// serve takes a request through all checks, the cheap ones first.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request) (outcome, *problem.Document) {
	if r.Method != http.MethodPost {
		return outcome{}, problem.New(http.StatusMethodNotAllowed, codeMethod, "want POST")
	}
	for _, origin := range r.Header.Values("Origin") {
		if !slices.Contains(h.opts.Auth.Origins, origin) {
			return outcome{}, problem.New(http.StatusForbidden, codeOrigin, "pages of this origin may not enrol devices")
		}
	}
	addr, now := h.opts.Address(r), h.enrollments.now()
	if !h.limit.allow(addr, now) {
		return outcome{}, problem.New(http.StatusTooManyRequests, codeOften, "too many requests from this address")
	}
	req, p := h.await(w, r, addr)
	if p != nil {
		return outcome{}, p
	}
	select { // only now: who has no secret could hold a slot for as long as a body may take
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		return outcome{}, refusal(errBusy)
	}
	ctx, cancel := context.WithTimeout(r.Context(), enrollWait)
	defer cancel()
	ev := Event{Device: req.ID, Remote: addr.String()}
	out, err := h.enroll(ctx, req, &ev)
	if err == nil || ev.Enrollment != "" {
		err = h.audit(ctx, ev, out, err)
	} else if p := (*problem.Document)(nil); errors.As(err, &p) && p.Code == codeSecret {
		h.limit.charge(addr, now)
		err = h.audit(ctx, ev, out, err)
	}
	return out, h.told(req.ID, err)
}

// told is the refusal that an error is told as.
func (h *Handler) told(device string, err error) *problem.Document {
	if err == nil {
		return nil
	}
	if p := (*problem.Document)(nil); errors.As(err, &p) {
		return p
	}
	p := refusal(err)
	if p.Code == codeInternal {
		h.opts.Log.Warn("device not enrolled", "device_id", device, "err", err)
	}
	return p
}

// enroll checks secret and key, and makes the record. ev learns of which enrollment it is once the secret was right.
func (h *Handler) enroll(ctx context.Context, req *Request, ev *Event) (outcome, error) {
	e := h.enrollments
	id, ok := idOf(req.Secret)
	en := &Enrollment{}
	if ok {
		found, err := e.find(ctx, id)
		if err != nil && !errors.Is(err, ErrUnknown) {
			return outcome{}, err
		}
		if err == nil {
			en = found
		}
	}
	if !en.fits(req.Secret) { // also with nothing to compare with, for the time that takes
		return outcome{}, refuseSecret()
	}
	ev.Enrollment = en.ID // from here on it is no stranger; a device that is in already may ask also after the end
	key, p := req.key(e.now(), h.opts.Auth.Skew)
	if p != nil {
		return outcome{}, p
	}
	return e.enroll(ctx, en, req, key)
}

// audit keeps what became of the request. A device that was let in without a record of that is told to ask again.
func (h *Handler) audit(ctx context.Context, ev Event, out outcome, err error) error {
	ev.Outcome, ev.Status = "ok", statusOf(out.code)
	if err != nil {
		p := h.told(ev.Device, err)
		ev.Outcome, ev.Status = p.Code, p.Status
	}
	return errors.Join(err, h.opts.Audit.Enrolled(ctx, ev))
}

// await reads the body of a request, within the bounds of those that are awaited.
func (h *Handler) await(w http.ResponseWriter, r *http.Request, from netip.Addr) (*Request, *problem.Document) {
	if err := h.bodies.enter(from); err != nil {
		return nil, refusal(err)
	}
	defer h.bodies.leave(from)
	return readBody(w, r)
}

func readBody(w http.ResponseWriter, r *http.Request) (*Request, *problem.Document) {
	limits := http.NewResponseController(w)
	_ = limits.SetReadDeadline(time.Now().Add(bodyWait)) // not supported only by what is no socket
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if tooBig := (*http.MaxBytesError)(nil); errors.As(err, &tooBig) {
			return nil, problem.New(http.StatusRequestEntityTooLarge, codeTooBig, "the body has more than "+strconv.Itoa(maxBody)+" bytes")
		}
		return nil, problem.New(http.StatusBadRequest, codeBody, "the body did not come whole")
	}
	_ = limits.SetReadDeadline(time.Time{})
	return parse(data)
}

func (h *Handler) answer(r *http.Request, out outcome) answer {
	rec := out.rec
	a := answer{
		Device: told{ID: rec.ID, Labels: rec.Labels, Pending: rec.Pending, Created: rec.Created.UnixMilli()},
		KID:    out.kid, Audience: h.opts.Auth.Audience, Issuer: h.opts.Auth.Issuer, URL: h.url(r),
		TokenTTL: int64(h.opts.Auth.MaxTokenTTL.Seconds()), Time: h.enrollments.now().UnixMilli(),
	}
	if a.Device.Labels == nil {
		a.Device.Labels = map[string]string{}
	}
	if at := slices.IndexFunc(rec.Keys, func(k devices.Key) bool { return k.KID == out.kid }); at >= 0 {
		a.Alg = rec.Keys[at].Alg
	}
	return a
}

// url is where the device connects: the host that it asked, which is the one that it can reach.
func (h *Handler) url(r *http.Request) string {
	scheme := "wss"
	if h.opts.Plaintext && r.Header.Get("X-Forwarded-Proto") != "https" { // only the asker hears it
		scheme = "ws"
	}
	return scheme + "://" + r.Host + "/v1/device"
}
