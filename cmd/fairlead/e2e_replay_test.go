package main_test

import (
	"encoding/csv"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestReplaySurvivesKills replays a series whose times repeat while the hub is killed twice: in the end each time is
// stored once, with the last value that the series has for it.
func TestReplaySurvivesKills(t *testing.T) {
	t.Parallel()
	const series = "testdata/series.csv"
	want, rows := readSeries(t, series)
	h := serve(t, loopback)
	sim := start(t, "fairlead sim", exec.Command(binary, "sim", "--ready-file", h.file("ready.json"), "--replay", series, "--speed", "300"))
	for _, stored := range []int{300, 900} {
		until(t, fmt.Sprintf("%d rows are stored", stored), func() bool { return h.count(t, "series") >= stored })
		if sim.ended() {
			t.Fatalf("the simulator ended before the hub was killed, with code %d", sim.wait())
		}
		h.kill()
		h.start()
	}
	if code := sim.wait(); code != 0 {
		t.Fatalf("simulator ended with code %d", code)
	}
	lines := strings.Split(strings.TrimSpace(sim.stdout.String()), "\n")
	summary := lines[len(lines)-1]
	t.Log(summary)
	begin := fmt.Sprintf("device=series rows=%d distinct_times=%d repeated=%d acked=%d unacked=0 rejected=0 resent=", rows, len(want), rows-len(want), rows)
	if !strings.HasPrefix(summary, begin) || !strings.Contains(summary, " reconnects=2 (of rows with the same time the last one wins)") {
		t.Errorf("summary:\n got %s\nwant %s... reconnects=2 ...", summary, begin)
	}
	until(t, "all times are stored", func() bool { return h.count(t, "series") >= len(want) })
	got := h.rows(t, "SELECT value FROM telemetry WHERE device = 'series'")
	if !slices.Equal(got, want) {
		t.Errorf("%d rows are stored, want %d; the first that differs is %s", len(got), len(want), firstDifference(got, want))
	}
	h.stop()
}

// count is how many values of the replayed device are stored.
func (r ready) count(t testing.TB, device string) int {
	t.Helper()
	rows := r.rows(t, "SELECT count(value) FROM telemetry WHERE device = '"+device+"'")
	if len(rows) == 0 {
		return 0
	}
	n, err := strconv.Atoi(rows[0][strings.LastIndexByte(rows[0], ' ')+1:])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// readSeries reads a series as InfluxDB should have it, in order of time, and how many rows it has.
func readSeries(t *testing.T, file string) (want []string, rows int) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	last := map[int64]string{}
	for _, row := range all[1:] {
		at, err := time.Parse("2006-01-02 15:04:05", row[0])
		if err != nil {
			t.Fatal(err)
		}
		v, err := strconv.ParseFloat(row[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		last[at.UnixNano()] = fmt.Sprint(v)
	}
	times := make([]int64, 0, len(last))
	for at := range last {
		times = append(times, at)
	}
	slices.Sort(times)
	for _, at := range times {
		want = append(want, fmt.Sprintf("%d %s", at, last[at]))
	}
	return want, len(all) - 1
}

func firstDifference(got, want []string) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("%q, want %q", got[i], want[i])
		}
	}
	return "after the end of one"
}
