package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/internal/influxtest"
)

// fairlead runs a command against the hub, with what is piped into it.
func (h *hub) fairlead(stdin string, args ...string) (code int, stdout, stderr string) {
	h.t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "FAIRLEAD_READY_FILE="+h.file("ready.json"))
	cmd.Stdin = strings.NewReader(stdin)
	return run(h.t, cmd)
}

// count asks a store how many values of a field it holds.
func count(t *testing.T, store, token, measurement, field string) int64 {
	t.Helper()
	q := url.Values{"db": {"telemetry"}, "q": {fmt.Sprintf("SELECT count(%q) FROM %q", field, measurement)}}
	req, err := http.NewRequest(http.MethodGet, store+"/query?"+q.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Token "+token)
	series, err := influxtest.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return influxtest.Total(t, series)
}

// history is a file of line protocol: n points of three devices, and two rows that no device may send.
func oldTelemetry(n int) (text string, bad []int) {
	at := time.Now().Add(-24 * time.Hour).UnixNano()
	lines := []string{"# exported somewhere"}
	for i := range n {
		switch i {
		case 100:
			lines = append(lines, fmt.Sprintf("env,device=old-1 temp=\"warm\" %d", at))
			bad = append(bad, len(lines))
		case 700:
			lines = append(lines, "env,device=old-2 temp= 5")
			bad = append(bad, len(lines))
		}
		lines = append(lines, fmt.Sprintf("env,device=old-%d,room=b\\ 2 temp=%d.5,n=%di,ok=%t,s=\"a \\\"b\\\"\" %d", i%3, i, i, i%2 == 0, at+int64(i)))
	}
	return strings.Join(lines, "\n") + "\n", bad
}

// Telemetry comes in by files, goes out again, and into an InfluxDB of the owner's: nothing is lost on the way.
func TestMovingTelemetry(t *testing.T) {
	t.Parallel()
	h := serve(t, loopback)
	const n = 9000
	text, bad := oldTelemetry(n)
	file := h.file("old.lp")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, said := h.fairlead("", "import", file); code == 0 || !strings.Contains(said, "--create") {
		t.Fatalf("unknown devices: exit %d, %s", code, said)
	}
	code, out, said := h.fairlead("", "import", "--create", file)
	if want := fmt.Sprintf("%d rows stored, 2 refused, done up to line %d", n, strings.Count(text, "\n")); code != 1 || !strings.Contains(out, want) {
		t.Fatalf("exit %d, %q\n%s\nwant %q", code, out, said, want)
	}
	for _, line := range bad {
		if !strings.Contains(said, fmt.Sprintf("old.lp: line %d: ", line)) {
			t.Errorf("line %d is not named in\n%s", line, said)
		}
	}
	// Once more from the middle, as after a broken connection: what is there already stays one.
	code, out, said = h.fairlead("", "import", "--skip", "5000", "-o", "json", file)
	var report struct {
		Stored int64
		Done   bool
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 || report.Stored != n+3-5000 || !report.Done {
		t.Errorf("again: exit %d, %q %v\n%s", code, out, err, said)
	}
	csv := "timestamp,temp,state,line,note\n2026-01-31T12:00:00Z,21.5,true,a,x\n2026-01-31 12:00:01,,false,a,y\n1769860802,22,true,b,\nsoon,1,true,a,z\n1769860804,1\n"
	code, out, said = h.fairlead(csv, "import", "--create", "--device", "old-9", "--measurement", "mill", "--format", "csv", "--tags", "line", "--drop", "note", "-")
	if code != 1 || !strings.Contains(out, "3 rows stored, 2 refused") || !strings.Contains(said, "line 5: timestamp \"soon\"") || !strings.Contains(said, "line 6: 2 cells") {
		t.Errorf("CSV: exit %d, %q\n%s", code, out, said)
	}
	until(t, "all is in the embedded store", func() bool {
		return count(t, h.InfluxURL, h.InfluxToken, "env", "temp") == n && count(t, h.InfluxURL, h.InfluxToken, "mill", "state") == 3
	})

	code, dump, said := h.fairlead("", "influx", "export")
	if code != 0 || strings.Count(dump, "\n") != n+3 || !strings.Contains(said, fmt.Sprintf("%d lines exported", n+3)) {
		t.Fatalf("export: exit %d, %d lines\n%s", code, strings.Count(dump, "\n"), said)
	}
	if code, one, _ := h.fairlead("", "export", "--device", "old-9", "--from", "2026-01-31T12:00:01Z", "--to", "2026-01-31T12:00:02Z"); code != 0 ||
		one != "mill,device=old-9,line=a state=false 1769860801000000000\n" {
		t.Errorf("one point of one device: exit %d, %q", code, one)
	}

	real := influxtest.Start(t, influxtest.Options{Auth: true, Database: "unused"})
	config := h.file("new.yaml")
	if err := os.WriteFile(config, []byte("influx: {url: \""+real.URL+"\", token: \""+real.Token+"\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, said = h.fairlead("", "influx", "check", "--config", config)
	if code != 0 || !strings.Contains(out, "influxdb1") || !strings.Contains(out, "write     ok") || !strings.Contains(out, "history   ok, InfluxQL") {
		t.Errorf("check: exit %d\n%s%s", code, out, said)
	}
	code, _, said = h.fairlead(dump, "influx", "load", "--config", config)
	if code != 0 || !strings.Contains(said, fmt.Sprintf("%d lines written", n+3)) {
		t.Fatalf("load: exit %d\n%s", code, said)
	}
	for _, f := range []struct{ measurement, field string }{{"env", "temp"}, {"env", "n"}, {"env", "ok"}, {"env", "s"}, {"mill", "temp"}, {"mill", "state"}} {
		was, is := count(t, h.InfluxURL, h.InfluxToken, f.measurement, f.field), count(t, real.URL, real.Token, f.measurement, f.field)
		if was == 0 || was != is {
			t.Errorf("%s.%s: %d values were there, %d are", f.measurement, f.field, was, is)
		}
	}

	// The same from the data directory of a hub that does not run.
	h.stop()
	code, again, said := h.fairlead("", "influx", "export", "--config", h.file("fairlead.yaml"), "--data", h.file("data"))
	if code != 0 || sortedLines(again) != sortedLines(dump) {
		t.Errorf("export of a stopped hub: exit %d, %d lines\n%s", code, strings.Count(again, "\n"), said)
	}
}

func sortedLines(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// A store that cannot be used is told with what to do about it.
func TestInfluxCheckSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	locked := influxtest.Start(t, influxtest.Options{Auth: true})
	for want, config := range map[string]string{
		"user:password": "influx: {url: \"" + locked.URL + "\", token: \"admin:wrong\"}",
		"influx.url":    "influx: {url: \"http://127.0.0.1:1\"}",
	} {
		file := t.TempDir() + "/fairlead.yaml"
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, said := run(t, exec.Command(binary, "influx", "check", "--config", file))
		if code == 0 || !strings.Contains(out, want) {
			t.Errorf("%s: exit %d\n%s%s", config, code, out, said)
		}
	}
}

// A device that wakes, posts and sleeps needs curl and its token.
func TestPostWithCurl(t *testing.T) {
	t.Parallel()
	h := serve(t, loopback)
	code, out, said := h.fairlead("", "devices", "add", "sleeper", "-o", "json")
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(out), &made); code != 0 || err != nil {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, said)
	}
	post := func(media, body string) string {
		t.Helper()
		_, out, _ := run(t, exec.Command("curl", "-sS", "--cacert", h.CAFile, "-w", "%{http_code}", "-H", "Authorization: Bearer "+made.Token,
			"-H", "Content-Type: "+media, "--data-binary", body, h.URL+"/v1/device/telemetry"))
		return out
	}
	if got := post("application/json", `{"fields":{"temp":21.5}}`); got != "204" {
		t.Errorf("frame: %s", got)
	}
	if got := post("text/plain", "env temp=22"); got != "204" {
		t.Errorf("line: %s", got)
	}
	if got := post("text/plain", "env,device=other temp=22"); !strings.Contains(got, `"path":"lines[0].tags.device"`) || !strings.HasSuffix(got, "400") {
		t.Errorf("device tag: %s", got)
	}
	until(t, "both are stored", func() bool {
		return count(t, h.InfluxURL, h.InfluxToken, "telemetry", "temp") == 1 && count(t, h.InfluxURL, h.InfluxToken, "env", "temp") == 1
	})
	_, out, _ = h.fairlead("", "devices", "show", "sleeper", "-o", "json")
	var shown struct {
		Status   string
		LastSeen int64 `json:"last_seen"`
	}
	if err := json.Unmarshal([]byte(out), &shown); err != nil || shown.Status != "never" || shown.LastSeen == 0 {
		t.Errorf("%+v %v\n%s", shown, err, out)
	}
}
