package embedded_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-hub/fairlead/ingest/embedded"
	"github.com/fairlead-hub/fairlead/internal/influxtest"
)

const (
	killRounds  = 5
	killWriters = 4
	killAcks    = 200 // acknowledged bodies in a round before the kill
	linesABody  = 20
)

func TestKilledStoreKeepsAllAcknowledged(t *testing.T) {
	dir := t.TempDir()
	var acked ledger
	for round := range killRounds {
		url, kill := child(t, dir)
		var wg sync.WaitGroup
		for w := range killWriters {
			wg.Add(1)
			go func() {
				defer wg.Done()
				series := fmt.Sprintf("r%dw%d", round, w)
				for i := 0; acked.write(url, series, i); i++ {
				}
			}()
		}
		acked.await((round + 1) * killAcks)
		kill()
		wg.Wait()
	}
	h := start(t, options(dir))
	lost, total := acked.missing(t, h)
	stored := influxtest.Total(t, h.query("SELECT count(v) FROM k"))
	t.Logf("kills=%d acked=%d stored=%d lost=%d", killRounds, total, stored, lost)
	if lost != 0 || stored < total {
		t.Errorf("lost %d acknowledged points", lost)
	}
}

// ledger is what the clients know.
type ledger struct {
	n      atomic.Int32
	mu     sync.Mutex
	bodies map[string]int // acknowledged, per series
	want   int32
	reach  chan struct{}
}

// write sends body i of the series and reports whether it was acknowledged.
func (l *ledger) write(url, series string, i int) bool {
	var body strings.Builder
	for j := range linesABody {
		fmt.Fprintf(&body, "k,s=%s v=%d %d\n", series, j, i*linesABody+j)
	}
	status, _, err := write(url, body.String())
	if err != nil || status != http.StatusNoContent {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bodies == nil {
		l.bodies = make(map[string]int)
	}
	l.bodies[series]++
	if l.n.Add(1) == l.want {
		close(l.reach)
	}
	return true
}

// await returns when n bodies have been acknowledged.
func (l *ledger) await(n int) {
	l.mu.Lock()
	if int(l.n.Load()) >= n {
		l.mu.Unlock()
		return
	}
	l.want, l.reach = int32(n), make(chan struct{})
	reach := l.reach
	l.mu.Unlock()
	<-reach
}

// missing asks the store for everything acknowledged.
func (l *ledger) missing(t *testing.T, h *hub) (lost, total int64) {
	t.Helper()
	for series, n := range l.bodies {
		// Bodies of a series are written one after the other: n acknowledged ones are the times below n*linesABody.
		want := int64(n * linesABody)
		q := fmt.Sprintf("SELECT count(v) FROM k WHERE s = '%s' AND time < %d", series, want)
		lost += want - influxtest.Total(t, h.query(q))
		total += want
	}
	return lost, total
}

// child runs a store in a process of its own and returns its URL and what ends it with SIGKILL.
func child(t *testing.T, dir string) (url string, kill func()) {
	t.Helper()
	url, _, kill = spawn(t, dir)
	return url, kill
}

func spawn(t testing.TB, dir string) (url string, pid int, kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill = func() {
		if killed {
			return
		}
		killed = true
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // says "signal: killed"
		http.DefaultClient.CloseIdleConnections()
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("child said nothing: %v", err)
	}
	return strings.TrimSpace(line), cmd.Process.Pid, kill
}

// TestSeriesFileIsMadeAnew plays what a power cut may leave: WAL and TSM files are whole, the series file is not.
func TestSeriesFileIsMadeAnew(t *testing.T) {
	dir := t.TempDir()
	url, kill := child(t, dir)
	var lines strings.Builder
	for i := range 100 {
		fmt.Fprintf(&lines, "m,device=d%d v=%d 1\n", i, i)
	}
	if status, body, err := write(url, lines.String()); err != nil || status != http.StatusNoContent {
		t.Fatal(status, body, err)
	}
	kill()
	damage(t, dir)
	if err := mislead(t, dir); err == nil {
		t.Error("control: a store that takes the damaged series file for good shows everything; the test proves nothing")
	}
	h := start(t, options(dir))
	h.wantCount("SELECT count(v) FROM m", 100)
	h.wantCount("SELECT count(v) FROM m WHERE device = 'd42'", 1)
	h.wantWritten("m,device=new v=1 1")
	h.wantCount("SELECT count(v) FROM m", 101)
}

// TestTornWAL plays two crashes. The first leaves half an entry at the end of the WAL; what is acknowledged after it must
// survive the second.
func TestTornWAL(t *testing.T) {
	for name, tail := range map[string]func(entries []byte) []byte{
		"zeros":       func([]byte) []byte { return make([]byte, 1999) },
		"a byte":      func([]byte) []byte { return []byte{1} },
		"half a head": func(entries []byte) []byte { return entries[:3] },
		"half a body": func(entries []byte) []byte { return entries[:len(entries)/2] },
		"zeros behind": func(entries []byte) []byte {
			return append(entries[:len(entries)/2:len(entries)/2], make([]byte, len(entries))...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if n := crashTwice(t, tail, false); n != 3 {
				t.Errorf("%d points, want 3", n)
			}
			if n := crashTwice(t, tail, true); n >= 3 {
				t.Errorf("control: %d points after the engine mended its WAL itself; the test proves nothing", n)
			}
		})
	}
}

// crashTwice returns how many of three acknowledged points are there in the end; clean has the store think that it was
// closed cleanly the first time.
func crashTwice(t *testing.T, tail func(entries []byte) []byte, clean bool) int64 {
	t.Helper()
	dir := t.TempDir()
	acked := func(lines string) {
		t.Helper()
		url, kill := child(t, dir)
		if status, body, err := write(url, lines); err != nil || status != http.StatusNoContent {
			t.Fatal(status, body, err)
		}
		kill()
	}
	acked("m v=1 1\nm v=1 2")
	segments, err := filepath.Glob(filepath.Join(dir, "wal", bucket, "autogen", "1", "*.wal"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	entries, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(segments[0], append(entries, tail(entries)...), 0o600); err != nil {
		t.Fatal(err)
	}
	if clean {
		if err := os.WriteFile(filepath.Join(dir, "clean"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	acked("m v=1 3")
	h := start(t, options(dir))
	defer h.stop()
	return influxtest.Total(t, h.query("SELECT count(v) FROM m"))
}

// damage overwrites the entries of every series segment with noise.
func damage(t *testing.T, dir string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "data", bucket, "_series", "*", "0000"))
	if err != nil || len(segments) == 0 {
		t.Fatal("no series segments", err)
	}
	for _, path := range segments {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		const header = 5
		if _, err := f.WriteAt(bytes.Repeat([]byte{1, 0, 0, 0, 0}, 1000), header); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// mislead opens a copy of the store with the mark of a clean stop, and says what is wrong with it.
func mislead(t *testing.T, dir string) error {
	t.Helper()
	fooled := t.TempDir()
	if err := os.CopyFS(fooled, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(fooled, "clean"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := embedded.New(options(fooled))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	series, err := query(s.URL(), "SELECT count(v) FROM m WHERE device = 'd42'")
	if err != nil {
		return err
	}
	if n := influxtest.Total(t, series); n != 1 {
		return fmt.Errorf("%d points of d42", n)
	}
	return nil
}

// TestNamesAreNoFailure: what the engine says of bad points holds names that a device chose, and is no reason to open the
// store anew.
func TestNamesAreNoFailure(t *testing.T) {
	h := start(t, options(t.TempDir()))
	h.wantWritten("m,.wal=WAL WAL=1 1")
	for i := range 20 {
		if status, body := h.write(fmt.Sprintf("m,.wal=WAL WAL=\"error writing WAL entry\" %d", i+2)); status != http.StatusBadRequest || !strings.Contains(body, "WAL") {
			t.Fatalf("a type conflict: %d %s", status, body)
		}
		h.wantWritten(fmt.Sprintf("m,.wal=WAL WAL=1 %d", i+2))
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	h := start(t, options(dir))
	h.wantWritten("m,d=a v=1,s=\"x\" 1\nm,d=b v=2 1700000000000000000")
	h.stop()
	h = start(t, options(dir))
	h.wantCount("SELECT count(v) FROM m", 2)
	h.wantWritten("m,d=a v=3 2")
	h.stop()
	h = start(t, options(dir))
	h.wantCount("SELECT count(v) FROM m", 3)
}

func TestOneProcessAtATime(t *testing.T) {
	o := options(t.TempDir())
	h := start(t, o)
	second, err := embedded.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Open(); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second store on the directory: %v", err)
	}
	h.wantWritten("m v=1 1") // and the first goes on
}

// TestBrokenShardIsSaid blocks one shard's WAL directory: the store opens, says that a shard is missing, and refuses
// writes to it rather than losing them.
func TestBrokenShardIsSaid(t *testing.T) {
	o := options(t.TempDir())
	h := start(t, o)
	h.wantWritten("m v=1 1\nm v=2 1700000000000000000")
	h.stop()
	first := filepath.Join(o.Dir, "wal", bucket, "autogen", "1")
	if err := os.RemoveAll(first); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(first, []byte("not a directory"), 0o600); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	o.Metrics = reg
	h = start(t, o)
	if n := metric(t, reg, "fairlead_embedded_broken_shards"); n != 1 {
		t.Errorf("broken_shards = %v, want 1", n)
	}
	series := h.query("SELECT v FROM m")
	if len(series) != 1 || len(series[0].Values) != 1 {
		t.Errorf("the other shard: %v", series)
	}
	broken, other := "m v=3 2", "m v=4 1700000000000000001"
	if fmt.Sprint(series[0].Values[0][0]) == "1" {
		broken, other = other, broken
	}
	if status, body := h.write(broken); status != http.StatusInternalServerError {
		t.Errorf("write to the broken shard: %d %s", status, body)
	}
	h.wantWritten(other)
}
