package console_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/commands/console"
	"github.com/fairlead-hub/fairlead/internal/problem"
	"github.com/fairlead-hub/fairlead/internal/selector"
)

const (
	operatorToken = "test-operator-token"
	oneTimeSecret = "test-one-time-secret"
	cookieName    = "__Host-fairlead"
)

// hub is a small stand-in for the operator API: real HTTP and sockets over TLS, the checks of cookie and CSRF that the
// real one makes, devices that measure and obey.
type hub struct {
	url string

	// static after newHub
	stop  chan struct{}
	tasks sync.WaitGroup

	mu          sync.Mutex
	devices     map[string]*device
	commands    []*order
	sessions    map[string]string // cookie -> CSRF token
	secrets     map[string]bool
	keys        map[string]*order // idempotency key -> what it made
	viewers     map[*viewer]bool
	liveDown    bool
	held        chan struct{} // closed when subscriptions are taken again; nil: they are
	loseReplies bool          // commands are taken, but the answers are lost on the way
	refusals    []string
	replayed    bool
	jobs        map[string]*job
	pending     []*device // enrolled, and not let in yet
}

type object = map[string]any

type device struct {
	ID       string            `json:"id"`
	Labels   map[string]string `json:"labels"`
	Model    string            `json:"model,omitempty"`
	Firmware string            `json:"firmware,omitempty"`
	Disabled bool              `json:"disabled"`
	Created  int64             `json:"created"`
	Link     string            `json:"link,omitempty"`
	Status   string            `json:"status"`
	Since    int64             `json:"since,omitempty"`
	LastSeen int64             `json:"last_seen,omitempty"`
	Cause    string            `json:"cause,omitempty"`
	Session  string            `json:"session,omitempty"`
	Node     string            `json:"node,omitempty"`
	Commands []object          `json:"commands,omitempty"`
	Last     map[string]object `json:"last,omitempty"`

	Silent      bool   `json:"silent,omitempty"`
	SilentSince int64  `json:"silent_since,omitempty"`
	ExpectEvery string `json:"expect_every,omitempty"`
	Conflict    bool   `json:"conflict,omitempty"`
	Flaps       int    `json:"flaps,omitempty"`
	Pending     bool   `json:"pending,omitempty"`
	Enrollment  string `json:"enrollment,omitempty"`
	Lease       object `json:"lease,omitempty"`

	measure func(time.Time) object
}

func newHub(t *testing.T, devices []*device) *hub {
	t.Helper()
	h := &hub{
		stop: make(chan struct{}), devices: map[string]*device{}, sessions: map[string]string{},
		secrets: map[string]bool{oneTimeSecret: true}, keys: map[string]*order{}, viewers: map[*viewer]bool{}, refusals: []string{},
		jobs: someJobs(), pending: somePending(),
	}
	for _, d := range devices {
		h.devices[d.ID] = d
	}
	server := httptest.NewUnstartedServer(h.routes())
	// Chromium tries each certificate once before it is told to trust it.
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	h.url = server.URL
	t.Cleanup(func() {
		close(h.stop)
		h.dropViewers()
		h.tasks.Wait()
		server.CloseClientConnections()
		server.Close()
	})
	return h
}

func (h *hub) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/console/", console.Handler())
	mux.HandleFunc("POST /api/v1/session", h.signIn)
	mux.HandleFunc("GET /api/v1/session", h.signedIn(h.whoAmI))
	mux.HandleFunc("DELETE /api/v1/session", h.signedIn(h.signOut))
	mux.HandleFunc("GET /api/v1/devices", h.signedIn(h.listDevices))
	mux.HandleFunc("GET /api/v1/devices/{id}", h.signedIn(h.showDevice))
	mux.HandleFunc("GET /api/v1/devices/{id}/telemetry", h.signedIn(h.history))
	mux.HandleFunc("GET /api/v1/devices/{id}/state", h.signedIn(h.twin))
	mux.HandleFunc("POST /api/v1/devices/{id}/commands", h.signedIn(h.send))
	mux.HandleFunc("GET /api/v1/commands", h.signedIn(h.listCommands))
	mux.HandleFunc("GET /api/v1/commands/{id}", h.signedIn(h.showCommand))
	mux.HandleFunc("DELETE /api/v1/commands/{id}", h.signedIn(h.cancel))
	h.sharedRoutes(mux)
	mux.HandleFunc("GET /api/v1/bridge", h.signedIn(h.bridge))
	mux.HandleFunc("GET /api/v1/deadletters", h.signedIn(h.deadletters))
	mux.HandleFunc("POST /api/v1/deadletters/replay", h.signedIn(h.replay))
	mux.HandleFunc("GET /api/v1/devices/{id}/trace", h.signedIn(h.trace))
	mux.HandleFunc("GET /api/v1/audit", h.signedIn(h.audit))
	mux.HandleFunc("/api/", func(w http.ResponseWriter, _ *http.Request) {
		problem.New(http.StatusNotFound, "not_found", "there is no such resource").Write(w)
	})
	mux.HandleFunc("GET /api/v1/live", h.signedIn(h.live))
	h.controls(mux)
	return mux
}

// controls let the browser script make things happen that an operator cannot.
func (h *hub) controls(mux *http.ServeMux) {
	mux.HandleFunc("POST /test/live/{state}", func(_ http.ResponseWriter, r *http.Request) {
		state := r.PathValue("state") // up, down, or shut: to new viewers only
		h.mu.Lock()
		h.liveDown = state != "up"
		h.mu.Unlock()
		if state != "shut" {
			h.dropViewers()
		}
	})
	mux.HandleFunc("POST /test/subscriptions/{fate}", func(_ http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if r.PathValue("fate") == "held" {
			h.held = make(chan struct{})
			return
		}
		close(h.held)
		h.held = nil
	})
	mux.HandleFunc("POST /test/event", func(_ http.ResponseWriter, r *http.Request) {
		var event object
		_ = json.NewDecoder(r.Body).Decode(&event) // the script's own; a bad one shows in its check
		if id, ok := event["device"].(string); ok && event["event"] == "presence" {
			h.mu.Lock()
			h.devices[id].Status, _ = event["status"].(string)
			h.devices[id].Cause, _ = event["cause"].(string)
			h.devices[id].Since = time.Now().UnixMilli()
			h.devices[id].Silent, _ = event["silent"].(bool)
			h.devices[id].Conflict, _ = event["conflict"].(bool)
			if h.devices[id].Silent {
				h.devices[id].SilentSince, h.devices[id].ExpectEvery = away(90*time.Second), "1m0s"
			}
			h.mu.Unlock()
		}
		if id, ok := event["device"].(string); ok && event["event"] == "identity_conflict" {
			h.mu.Lock()
			h.devices[id].Conflict, h.devices[id].Flaps = true, 4
			h.mu.Unlock()
		}
		h.tell(event)
	})
	mux.HandleFunc("POST /test/replies/{fate}", func(_ http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.loseReplies = r.PathValue("fate") == "lost"
		h.mu.Unlock()
	})
	mux.HandleFunc("POST /test/signout", func(http.ResponseWriter, *http.Request) {
		h.mu.Lock()
		clear(h.sessions)
		h.mu.Unlock()
		h.dropViewers()
	})
	mux.HandleFunc("GET /test/refusals", func(w http.ResponseWriter, _ *http.Request) {
		h.reply(w, func() any { return object{"refusals": h.refusals, "commands": len(h.commands)} })
	})
	// The same policy with what it forbids: a check that finds nothing here could not find anything.
	mux.HandleFunc("GET /test/hostile", func(w http.ResponseWriter, r *http.Request) {
		recorder := httptest.NewRecorder()
		console.Handler().ServeHTTP(recorder, httptest.NewRequestWithContext(r.Context(), http.MethodGet, "/console/", nil))
		if r.URL.Query().Get("policy") != "none" {
			w.Header().Set("Content-Security-Policy", recorder.Header().Get("Content-Security-Policy"))
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><title>hostile</title><script>alert('inline')</script><img src=x onerror="alert('handler')">`)
	})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the browser may be gone
}

// reply answers with what look finds under the lock; nothing goes out while it is held.
func (h *hub) reply(w http.ResponseWriter, look func() any) {
	h.mu.Lock()
	data, err := json.Marshal(look())
	h.mu.Unlock()
	if err != nil {
		problem.New(http.StatusInternalServerError, "internal", err.Error()).Write(w)
		return
	}
	answer(w, http.StatusOK, json.RawMessage(data))
}

func (h *hub) refuse(w http.ResponseWriter, p *problem.Document) {
	h.mu.Lock()
	h.refusals = append(h.refusals, p.Code)
	h.mu.Unlock()
	p.Write(w)
}

// signedIn asks for the session's cookie, and of every change for its CSRF token too.
func (h *hub) signedIn(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		csrf := ""
		if cookie, err := r.Cookie(cookieName); err == nil {
			csrf = h.sessions[cookie.Value]
		}
		h.mu.Unlock()
		switch {
		case csrf == "":
			problem.New(http.StatusUnauthorized, "signed_out", "the session has ended").Write(w)
		case r.Method != http.MethodGet && r.Header.Get("X-CSRF-Token") != csrf:
			h.refuse(w, problem.New(http.StatusForbidden, "csrf", "the CSRF token is missing or wrong"))
		default:
			next(w, r)
		}
	}
}

func (h *hub) signIn(w http.ResponseWriter, r *http.Request) {
	var proof struct{ Token, Secret string }
	if err := json.NewDecoder(r.Body).Decode(&proof); err != nil {
		problem.New(http.StatusBadRequest, "invalid_json", err.Error()).Write(w)
		return
	}
	h.mu.Lock()
	once := h.secrets[proof.Secret]
	delete(h.secrets, proof.Secret)
	h.mu.Unlock()
	if proof.Token != operatorToken && !once {
		problem.New(http.StatusUnauthorized, "invalid_token", "this token or link is not valid").
			WithHint("make a new one with: fairlead operators add NAME").Write(w)
		return
	}
	h.mu.Lock()
	id := fmt.Sprintf("session-%d", len(h.sessions)+1)
	h.sessions[id] = "csrf-" + id
	h.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: id, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	answer(w, http.StatusOK, object{"name": "kim", "role": "admin", "csrf": "csrf-" + id})
}

func (h *hub) whoAmI(w http.ResponseWriter, r *http.Request) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return // signedIn has seen it
	}
	answer(w, http.StatusOK, object{"name": "kim", "role": "admin", "csrf": "csrf-" + cookie.Value})
}

func (h *hub) signOut(w http.ResponseWriter, _ *http.Request) {
	h.mu.Lock()
	clear(h.sessions)
	h.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (h *hub) listDevices(w http.ResponseWriter, r *http.Request) {
	asked, err := selector.Parse(r.FormValue("selector"))
	if err != nil {
		problem.New(http.StatusBadRequest, "invalid_selector", err.Error()).
			WithPath("selector").WithHint("write it like site=plant-7,room=b2").Write(w)
		return
	}
	limit, err := strconv.Atoi(r.FormValue("limit"))
	if err != nil || limit > 1000 {
		limit = 50
	}
	cursor := r.FormValue("cursor")
	h.reply(w, func() any {
		page := []*device{}
		for _, id := range slices.Sorted(maps.Keys(h.devices)) {
			if id <= cursor || !asked.Match(h.devices[id].Labels) {
				continue
			}
			if len(page) == limit {
				return object{"devices": page, "cursor": page[limit-1].ID}
			}
			page = append(page, h.devices[id])
		}
		return object{"devices": page}
	})
}

func (h *hub) showDevice(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	d := h.devices[r.PathValue("id")]
	h.mu.Unlock()
	if d == nil {
		problem.New(http.StatusNotFound, "device_not_found", "there is no device of that name").WithHint("fairlead devices list shows all").Write(w)
		return
	}
	h.reply(w, func() any { return d })
}

func (h *hub) twin(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("id") != "boiler-1" {
		problem.New(http.StatusNotImplemented, "not_implemented", "no state is kept").Write(w)
		return
	}
	answer(w, http.StatusOK, object{
		"desired": object{"interval_s": 10, "mode": "eco"}, "desired_version": 7,
		"reported": object{"interval_s": 10, "mode": "comfort", "uptime_s": 8123}, "reported_version": 5, "difference": object{"mode": "eco"},
	})
}

// history makes one value every so often of the range asked for, with a hole in the middle where the device was away.
func (h *hub) history(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	d := h.devices[r.PathValue("id")]
	h.mu.Unlock()
	back, err := time.ParseDuration(r.FormValue("from"))
	if d == nil || err != nil || r.FormValue("to") != "now" {
		problem.New(http.StatusBadRequest, "invalid_range", "from must be like -1h").WithPath("from").Write(w)
		return
	}
	every, err := time.ParseDuration(r.FormValue("every"))
	if err != nil {
		every = time.Second
	}
	now := time.Now().Truncate(every)
	series := []object{}
	for field := range strings.SplitSeq(r.FormValue("fields"), ",") {
		times, values := []int64{}, []any{}
		for at := now.Add(back); !at.After(now); at = at.Add(every) {
			if done := float64(at.Sub(now.Add(back))) / float64(-back); done > 0.42 && done < 0.5 {
				continue
			}
			times, values = append(times, at.UnixMilli()), append(values, d.measure(at)[field])
		}
		series = append(series, object{"measurement": r.FormValue("measurement"), "field": field, "tags": object{}, "times": times, "values": values})
	}
	answer(w, http.StatusOK, object{"series": series, "every_ms": every.Milliseconds(), "fn": r.FormValue("fn")})
}
