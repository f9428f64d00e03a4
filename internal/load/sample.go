package load

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// sample is what is read before and after measuring.
type sample struct {
	at      time.Time
	acked   uint64
	cpu     []float64
	own     float64
	batches float64
}

func (f *fleet) sample(ctx context.Context) (s sample, err error) {
	if f.spec.Metrics != "" {
		if s.batches, err = Counter(ctx, f.spec.Metrics, "fairlead_ingest_batches_total"); err != nil {
			return s, err
		}
	}
	for _, pid := range f.spec.PIDs {
		used, err := CPU(pid)
		if err != nil {
			return s, err
		}
		s.cpu = append(s.cpu, used)
	}
	if s.own, err = CPU(os.Getpid()); err != nil {
		return s, err
	}
	for _, l := range f.links {
		s.acked += l.acked.Load()
	}
	s.at = time.Now()
	return s, nil
}

// clockTicks is the unit of /proc/PID/stat; Linux has no other on any machine that Go runs on.
const clockTicks = 100

// CPU is the processor time that a process has used, in seconds.
func CPU(pid int) (float64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("processor time: %w", err)
	}
	// The name in parentheses may hold blanks; utime and stime are fields 14 and 15 [proc(5)].
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const utime, stime = 14 - 3, 15 - 3
	user, err := strconv.ParseFloat(fields[utime], 64)
	if err != nil {
		return 0, fmt.Errorf("processor time: %w", err)
	}
	system, err := strconv.ParseFloat(fields[stime], 64)
	if err != nil {
		return 0, fmt.Errorf("processor time: %w", err)
	}
	return (user + system) / clockTicks, nil
}

// Counter reads one metric without labels from a /metrics address.
func Counter(ctx context.Context, url, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("read metrics: %s has no %s", url, name)
}

// Memory is how many bytes of a process are in memory.
func Memory(pid int) (float64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0, fmt.Errorf("resident memory: %w", err)
	}
	var size, resident float64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0, fmt.Errorf("resident memory: %w", err)
	}
	return resident * float64(os.Getpagesize()), nil
}
