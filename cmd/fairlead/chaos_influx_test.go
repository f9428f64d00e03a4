package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/fairlead-hub/fairlead/internal/influxtest"
	"github.com/fairlead-hub/fairlead/internal/load"
)

// faulty stands before a real InfluxDB and answers writes by a script.
type faulty struct {
	*httptest.Server
	fault  atomic.Pointer[fault]
	writes atomic.Int64 // since the fault began
	whole  http.Handler
}

// fault is what happens to a write instead of the store's own answer.
type fault func(f *faulty, w http.ResponseWriter, r *http.Request)

func startFaulty(t *testing.T, store string) *faulty {
	t.Helper()
	to, err := url.Parse(store)
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{whole: httputil.NewSingleHostReverseProxy(to)}
	f.Server = httptest.NewServer(f)
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := f.fault.Load()
	write := strings.HasSuffix(r.URL.Path, "/write")
	if now == nil || !write && r.URL.Path != "/ping" {
		f.whole.ServeHTTP(w, r)
		return
	}
	if write {
		f.writes.Add(1)
	}
	(*now)(f, w, r)
}

func (f *faulty) set(now fault) {
	f.writes.Store(0)
	if now == nil {
		f.fault.Store(nil)
		return
	}
	f.fault.Store(&now)
}

func unavailable(_ *faulty, w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusServiceUnavailable)
	fmt.Fprint(w, `{"code":"unavailable","message":"by the script"}`)
}

// lanes is in how many ways the hub writes at once: each may ask once before it hears when to come back.
const lanes = 4

// tooMany asks to come back after the fault, in one form or the other.
func tooMany(form func(time.Duration) string) fault {
	return func(_ *faulty, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Retry-After", form(faultTime+2*time.Second))
		w.WriteHeader(http.StatusTooManyRequests)
	}
}

// replyLost stores the lines, and then breaks the connection instead of answering.
func replyLost(f *faulty, _ http.ResponseWriter, r *http.Request) {
	f.whole.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// tooLarge takes small bodies only.
func tooLarge(f *faulty, w http.ResponseWriter, r *http.Request) {
	const most = 20 << 10
	body, err := io.ReadAll(r.Body)
	if err != nil || len(body) > most {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	f.whole.ServeHTTP(w, r)
}

func hang(_ *faulty, _ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // else the server does not see the hub give up
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// TestChaosInfluxFaultsLoseNothing lets InfluxDB fail in every way that it has, under load.
func TestChaosInfluxFaultsLoseNothing(t *testing.T) {
	t.Parallel()
	db := influxtest.Start(t)
	proxy := startFaulty(t, db.URL)
	_, up := startHubPart(t, hubWanted{Dir: t.TempDir(), InfluxURL: proxy.URL, InfluxToken: db.Token, Devices: chaosDevices})
	query := func(q string) ([]influxtest.Series, error) { return db.Query(context.Background(), q) }
	var l ledger
	for _, tt := range []struct {
		name  string
		fault fault
		most  int64 // writes while the fault lasts; 0: any
	}{
		{"503", unavailable, 0},
		{"429, Retry-After in seconds", tooMany(func(d time.Duration) string { return fmt.Sprint(int(d.Seconds())) }), lanes},
		{"429, Retry-After as a date", tooMany(func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }), lanes},
		{"hang", hang, 0},
		{"reply lost after it stored", replyLost, 0},
		{"413", tooLarge, 0},
	} {
		g := l.load(t, up, load.Spec{Rate: 50, Window: 16, Measure: faultTime + time.Second, Settle: 20 * time.Second})
		time.Sleep(faultTime / 2) // the fault comes amid the load
		proxy.set(tt.fault)
		time.Sleep(faultTime)
		writes := proxy.writes.Load()
		proxy.set(nil)
		if r := g.wait(); r.Broken > 0 {
			t.Errorf("%s: %d connections broke", tt.name, r.Broken)
		}
		a := l.settled(t, time.Minute, query)
		t.Logf("fault=%q writes_during=%d %v", tt.name, writes, a)
		wantWhole(t, a)
		if writes == 0 || tt.most > 0 && writes > tt.most {
			t.Errorf("%s: %d writes while it lasted", tt.name, writes)
		}
	}
}

// TestChaosBadPointsAreSetAside writes a type behind the hub's back, so that InfluxDB refuses 1 point in 1,000 that the hub
// had acknowledged: those are with the dead letters with InfluxDB's own reason, all others are stored.
func TestChaosBadPointsAreSetAside(t *testing.T) {
	t.Parallel()
	const frames, points = 20, 1000
	db := influxtest.Start(t)
	_, up := startHubPart(t, hubWanted{Dir: t.TempDir(), InfluxURL: db.URL, InfluxToken: db.Token, Devices: 1})
	at := time.Now().Add(-time.Hour).UnixMilli()
	if code, body, err := db.Write(t.Context(), fmt.Sprintf(`telemetry,device=other odd="text" %d`, at*1e6)); err != nil || code != http.StatusNoContent {
		t.Fatalf("%d %s %v", code, body, err)
	}
	ws, _, err := websocket.DefaultDialer.Dial(up.URL, http.Header{"Authorization": {"Bearer " + up.Tokens[0]}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	acked := 0
	for f := range frames {
		parts := make([]string, points)
		for p := range parts {
			field := "even"
			if p == points/2 {
				field = "odd"
			}
			parts[p] = fmt.Sprintf(`{"time":%d,"fields":{"%s":1}}`, at+int64(f*points+p), field)
		}
		frame := fmt.Sprintf(`{"type":"telemetry","seq":%d,"points":[%s]}`, f+1, strings.Join(parts, ","))
		if err := ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
			t.Fatal(err)
		}
	}
	for acked < frames {
		var m struct {
			Type    string
			Seq     int
			Message string
		}
		if err := ws.ReadJSON(&m); err != nil {
			t.Fatal(err)
		}
		if m.Type == "reject" {
			t.Fatal(m.Message)
		}
		if m.Type == "ack" {
			acked = m.Seq
		}
	}
	var dead struct {
		Deadletters []struct{ Device, Reason, Line string }
	}
	until(t, "dead letters", func() bool {
		req, err := http.NewRequest(http.MethodGet, up.API+"/api/v1/deadletters?limit=1000", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+up.Operator)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&dead); err != nil {
			t.Fatal(err)
		}
		return len(dead.Deadletters) >= frames && db.Count("telemetry", "even") >= frames*(points-1)
	})
	stored := db.Count("telemetry", "even")
	for _, d := range dead.Deadletters {
		if !strings.Contains(d.Reason, "field type conflict") || !strings.Contains(d.Line, " odd=1 ") || d.Device != "bench-00000" {
			t.Errorf("dead letter %+v", d)
		}
	}
	lost := int64(frames*points) - stored - int64(len(dead.Deadletters))
	t.Logf("acked=%d stored=%d dead=%d lost=%d reason=%q", frames*points, stored, len(dead.Deadletters), lost, dead.Deadletters[0].Reason)
	if lost != 0 {
		t.Errorf("%d points are neither stored nor set aside", lost)
	}
}
