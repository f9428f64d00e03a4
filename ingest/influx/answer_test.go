package influx_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/internal/influxtest"
)

// Only what a store answers counts: what something before it answers neither stores a line nor refuses one.
func TestOnlyAStoresAnswerCounts(t *testing.T) {
	says := func(status int, media, text string, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", media)
			for i := 0; i+1 < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(status)
			fmt.Fprint(w, text)
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   ingest.Verdict
		text   string
	}{
		"a page":                {says(200, "text/html", "<html>"), ingest.Unavailable, "influx.url"},
		"created":               {says(201, "text/plain", ""), ingest.Unavailable, "influx.url"},
		"sent to a login":       {says(302, "text/html", "", "Location", "/login"), ingest.Unavailable, "/login"},
		"sent to another place": {says(301, "text/html", "", "Location", "/moved"), ingest.Unavailable, "/moved"},
		"a server of TLS":       {says(400, "text/plain; charset=utf-8", "Client sent an HTTP request to an HTTPS server.\n"), ingest.Unavailable, "HTTPS"},
		"a proxy's 400":         {says(400, "text/html", "<html>The plain HTTP request was sent to HTTPS port"), ingest.Unavailable, "HTTPS"},
		"InfluxDB 1.8":          {says(400, "application/json", `{"error":"unable to parse"}`, "X-Influxdb-Error", "unable to parse"), ingest.Refused, "unable to parse"},
		"InfluxDB 2":            {says(422, "application/json", `{"code":"unprocessable entity","message":"beyond retention"}`), ingest.Refused, "beyond retention"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, scripted(t, map[string]http.HandlerFunc{
				"/api/v2/write": c.answer, "/login": says(200, "text/html", "who are you"), "/moved": says(204, "text/plain", ""),
			}), "")
			err := s.Write(t.Context(), []byte("m v=1 1\n"))
			var e *ingest.StoreError
			if !errors.As(err, &e) || e.Verdict != c.want || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v (%+v)", err, e)
			}
		})
	}
}

// A line that a real store cannot read is refused by it, and known as such.
func TestRealStoresRefuse(t *testing.T) {
	for name, url := range map[string]string{"influxd": startInflux(t, false).URL, "embedded": openEmbedded(t).URL()} {
		s := open(t, url, "secret")
		if c := s.Check(t.Context(), 0); !c.OK() {
			t.Fatalf("%s: %+v", name, c)
		}
		var e *ingest.StoreError
		if err := s.Write(t.Context(), []byte("m v= 1\n")); !errors.As(err, &e) || e.Verdict != ingest.Refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A field that is called like the hub's tag, stored before such fields were refused or by somebody else, hides nobody's history
// and is nobody's.
func TestFieldCalledDevice(t *testing.T) {
	db := influxtest.Start(t)
	s := open(t, db.URL, "")
	if c := s.Check(t.Context(), 0); !c.OK() {
		t.Fatalf("%+v", c)
	}
	now := time.Now().Add(-time.Minute).UnixNano()
	lines := fmt.Sprintf("env,device=pump-7 temp=1 %d\nenv,device=x device=\"pump-7\",temp=9 %d\n", now, now+1)
	if err := s.Write(t.Context(), []byte(lines)); err != nil {
		t.Fatal(err)
	}
	h, err := history(t, s, "pump-7")
	if err != nil || len(h.Series) != 1 || len(h.Series[0].Values) != 1 || string(h.Series[0].Values[0]) != "1" {
		t.Errorf("history of pump-7: %+v, %v", h, err)
	}
}
