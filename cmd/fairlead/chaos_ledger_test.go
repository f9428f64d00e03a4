package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/internal/influxtest"
	"github.com/fairlead-hub/fairlead/internal/load"
)

// hubWanted and hubUp are what the part "hub" of the bench is told and answers.
type hubWanted struct {
	Dir         string `json:"dir"`
	InfluxURL   string `json:"influx_url"`
	InfluxToken string `json:"influx_token"`
	Unsynced    bool   `json:"unsynced"`
	Devices     int    `json:"devices"`
	LogBytes    int64  `json:"log_bytes"`
	MinFree     int64  `json:"min_free"`
}

type hubUp struct {
	URL      string   `json:"url"`
	Admin    string   `json:"admin"`
	PID      int      `json:"pid"`
	Tokens   []string `json:"tokens"`
	Influx   string   `json:"influx"`
	Token    string   `json:"token"`
	Bucket   string   `json:"bucket"`
	API      string   `json:"api"`
	Operator string   `json:"operator"`
}

// nowhere is an InfluxDB that is not there.
const nowhere = "http://127.0.0.1:1"

// part is a part of the bench in a process of its own.
type part struct {
	*process
	stdin io.WriteCloser
	out   *json.Decoder
}

func startPart(t testing.TB, name string, spec any) *part {
	t.Helper()
	cmd := exec.Command(binary, "bench", "part", name)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	p := &part{process: start(t, name, cmd, w), stdin: stdin, out: json.NewDecoder(r)}
	if err := w.Close(); err != nil { // the part has it now
		t.Fatal(err)
	}
	if err := json.NewEncoder(stdin).Encode(spec); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return p
}

func (p *part) answer(into any) {
	p.t.Helper()
	if err := p.out.Decode(into); err != nil {
		p.t.Fatalf("%s: %v\n%s", p.name, err, tail(p.stderr.String()))
	}
}

func startHubPart(t testing.TB, want hubWanted) (*part, hubUp) {
	t.Helper()
	p := startPart(t, "hub", want)
	var up hubUp
	p.answer(&up)
	return p, up
}

func (p *part) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// ledger is what the devices know: how much of their one long row of frames was acknowledged. It is kept outside the
// hub, by the loader's process and by the test.
type ledger struct {
	start int64
	marks []load.Mark
}

// loading is a load at work.
type loading struct {
	*part
	l *ledger
}

// load lets every device go on where it was; what was not acknowledged is sent again.
func (l *ledger) load(t testing.TB, up hubUp, spec load.Spec) loading {
	t.Helper()
	if l.start == 0 {
		l.start = time.Now().Add(-48 * time.Hour).UnixMilli()
		l.marks = make([]load.Mark, len(up.Tokens))
	}
	spec.URL, spec.Tokens, spec.Start, spec.Breaks = up.URL, up.Tokens, l.start, true
	spec.From = nil
	for _, m := range l.marks {
		spec.From = append(spec.From, m.Acked)
	}
	return loading{startPart(t, "load", spec), l}
}

// wait waits for the load's end and enters into the ledger what the devices know.
func (g loading) wait() load.Result {
	g.t.Helper()
	var r load.Result
	g.answer(&r)
	for i, m := range r.Devices {
		g.l.marks[i] = load.Mark{Sent: max(g.l.marks[i].Sent, m.Sent), Acked: max(g.l.marks[i].Acked, m.Acked)}
	}
	return r
}

// stop ends the load, and waits for it.
func (g loading) stop() load.Result {
	g.t.Helper()
	if err := g.stdin.Close(); err != nil {
		g.t.Fatal(err)
	}
	return g.wait()
}

// audited is the verdict of an audit.
type audited struct{ acked, stored, lost, duplicated int64 }

func (a audited) String() string {
	return fmt.Sprintf("acked=%d stored=%d lost=%d duplicated=%d", a.acked, a.stored, a.lost, a.duplicated)
}

// audit counts through InfluxQL. Lost is what was acknowledged and is not there; duplicated is what is there beyond all
// that was ever sent.
func (l *ledger) audit(query func(string) ([]influxtest.Series, error)) (a audited, err error) {
	for i, m := range l.marks {
		device := fmt.Sprintf("bench-%05d", i)
		ns := func(n uint64) string { return fmt.Sprint((l.start + int64(n)) * 1e6) }
		series, err := query("SELECT count(temp) FROM bench WHERE device='" + device + "' AND time >= " + ns(0) + " AND time < " + ns(m.Acked) + ";" +
			"SELECT count(temp) FROM bench WHERE device='" + device + "'")
		if err != nil {
			return a, err
		}
		var counts []int64
		for _, s := range series {
			n, err := s.Values[0][1].(json.Number).Int64()
			if err != nil {
				return a, err
			}
			counts = append(counts, n)
		}
		kept, all := int64(0), int64(0)
		switch len(counts) {
		case 1: // nothing acknowledged is there, so the one answer is of all
			all = counts[0]
		case 2:
			kept, all = counts[0], counts[1]
		}
		a.acked += int64(m.Acked)
		a.stored += all
		a.lost += int64(m.Acked) - kept
		a.duplicated += max(0, all-int64(m.Sent))
	}
	return a, nil
}

// settled audits until nothing is missing any more, or patience is over: then what is missing is lost.
func (l *ledger) settled(t testing.TB, patience time.Duration, query func(string) ([]influxtest.Series, error)) audited {
	t.Helper()
	var a audited
	var err error
	for until := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if a, err = l.audit(query); err == nil && a.lost == 0 || time.Now().After(until) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// wantWhole fails unless nothing is lost or there twice.
func wantWhole(t testing.TB, a audited) {
	t.Helper()
	if a.lost != 0 || a.duplicated != 0 || a.acked == 0 {
		t.Errorf("%v", a)
	}
}

// influxOf asks the store that a hub writes to.
func influxOf(t testing.TB, up hubUp) func(string) ([]influxtest.Series, error) {
	return func(q string) ([]influxtest.Series, error) {
		form := url.Values{"db": {up.Bucket}, "q": {q}, "epoch": {"ns"}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, up.Influx+"/query", strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if up.Token != "" {
			req.Header.Set("Authorization", "Token "+up.Token)
		}
		series, err := influxtest.Do(req)
		if err != nil {
			return nil, errors.Join(errors.New("audit"), err)
		}
		return series, nil
	}
}

// metric reads one of the hub's metrics.
func metric(t *testing.T, up hubUp, name string) float64 {
	t.Helper()
	v, err := load.Counter(t.Context(), up.Admin+"/metrics", name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
