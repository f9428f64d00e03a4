package sim

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"
)

// maxDelay bounds the times of a fault spec.
const maxDelay = time.Hour

// Faults is how a device misbehaves on demand. Shares are 0 to 1, drawn anew for each delivery of a command.
type Faults struct {
	Refuse float64 // answered by a result that is not ok
	Drop   float64 // neither accepted nor answered, and not done
	Twice  float64 // the result is sent twice
	Late   float64 // done in time, the result held back until after the command's timeout

	Delay      time.Duration // between accepting and acting
	DelayShare float64       // of commands that are delayed

	Disconnect time.Duration // the link breaks, without a goodbye, once in this time on average; 0: never
}

const faultUsage = "want refuse=5%, drop=2%, twice=10%, late=1%, delay=3s or delay=3s@20%, disconnect=5m"

// ParseFaults reads a spec such as refuse=5%,drop=2%,delay=3s@20%,twice=10%,late=1%,disconnect=5m. The empty spec has no
// faults. The shares of refuse and drop exclude each other and may not exceed 100% together.
func ParseFaults(spec string) (Faults, error) {
	var f Faults
	seen := map[string]bool{}
	for part := range strings.SplitSeq(spec, ",") {
		part = strings.TrimSpace(part)
		if part == "" && strings.TrimSpace(spec) == "" {
			return f, nil
		}
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return f, fmt.Errorf("faults: %q has no value; %s", part, faultUsage)
		}
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if seen[name] {
			return f, fmt.Errorf("faults: %s is given twice", name)
		}
		seen[name] = true
		if err := f.set(name, value); err != nil {
			return f, fmt.Errorf("faults: %s: %w", name, err)
		}
	}
	if f.Refuse+f.Drop > 1 {
		return f, fmt.Errorf("faults: refuse and drop are more than 100%% together")
	}
	return f, nil
}

func (f *Faults) set(name, value string) (err error) {
	switch name {
	case "refuse":
		f.Refuse, err = share(value)
	case "drop":
		f.Drop, err = share(value)
	case "twice":
		f.Twice, err = share(value)
	case "late":
		f.Late, err = share(value)
	case "delay":
		amount, part, some := strings.Cut(value, "@")
		f.DelayShare = 1
		if some {
			if f.DelayShare, err = share(part); err != nil {
				return err
			}
		}
		f.Delay, err = span(amount)
	case "disconnect":
		f.Disconnect, err = span(value)
	default:
		return fmt.Errorf("no such fault; %s", faultUsage)
	}
	return err
}

func share(s string) (float64, error) {
	digits, ok := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || !(v >= 0 && v <= 100) {
		return 0, fmt.Errorf("%q is not a share; want 0%% to 100%%", s)
	}
	return v / 100, nil
}

func span(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > maxDelay {
		return 0, fmt.Errorf("%q is not a time; want one such as 3s, at most %s", s, maxDelay)
	}
	return d, nil
}

// draw is what is to go wrong with one delivery of a command.
type draw struct {
	refuse, drop, twice, late bool
	delay                     time.Duration
}

// draw decides by the seed, the command and its attempt alone, so that a run can be repeated.
func (f *Faults) draw(seed uint64, id string, attempt int) draw {
	if *f == (Faults{}) {
		return draw{}
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s %d", seed, id, attempt) // a hash takes every write
	dice := h.Sum64()
	roll := func() float64 {
		dice = mix(dice)
		return float64(dice>>11) / (1 << 53)
	}
	var d draw
	first := roll()
	d.drop = first < f.Drop
	d.refuse = !d.drop && first < f.Drop+f.Refuse
	d.twice = roll() < f.Twice
	d.late = roll() < f.Late
	if roll() < f.DelayShare {
		d.delay = f.Delay
	}
	return d
}

// mix is the finaliser of splitmix64: a cheap way from one number to an unrelated one.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
