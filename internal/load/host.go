package load

import (
	"fmt"
	"os"
	"strings"
)

// Host is what this machine's processors did since it started, in clock ticks.
type Host struct{ Total, Stolen float64 }

// ReadHost reads /proc/stat.
func ReadHost() (h Host, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return h, fmt.Errorf("processor time of the machine: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var t [8]float64 // user, nice, system, idle, iowait, irq, softirq, steal [proc(5)]
	if _, err := fmt.Sscanf(line, "cpu %f %f %f %f %f %f %f %f", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]); err != nil {
		return h, fmt.Errorf("processor time of the machine: %q: %w", line, err)
	}
	for _, v := range t {
		h.Total += v
	}
	h.Stolen = t[7]
	return h, nil
}

// StolenSince is the share of the time since an earlier reading in which a processor of this machine had work and the
// host beneath it gave it to another machine. Latencies that were measured meanwhile hold those pauses.
func (h Host) StolenSince(before Host) float64 {
	return (h.Stolen - before.Stolen) / max(h.Total-before.Total, 1)
}
