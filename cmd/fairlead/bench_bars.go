package main

import (
	"fmt"
	"time"
)

// bar is what is asked of a figure.
type bar struct {
	what   string
	of     []string // rounds
	figure func(r []seen) string
	met    func(r []seen) bool
	want   string
}

// bars are what is asked of the way in. Where a bar is a ratio, both sides are of this run.
func (b *ingestBench) bars() []bar {
	over := func(r []seen) float64 { return r[0].perSecond / r[1].perSecond }
	cost := func(r []seen) float64 { return float64(r[0].cpu) / float64(r[1].cpu) }
	syncs := func(d time.Duration) float64 { return float64(d) / float64(b.fsync.P50) }
	pair := func(name, what string, want float64) bar {
		return bar{
			what,
			[]string{name},
			func(r []seen) string { return r[0].ratio.String() },
			func(r []seen) bool { return median(r[0].ratio) >= want }, fmt.Sprintf(">= %.1f x", want),
		}
	}
	return []bar{
		{
			"frames acked a second, 200 devices x 16",
			[]string{roundPeak},
			func(r []seen) string { return fmt.Sprintf("%.0f", r[0].perSecond) },
			func(r []seen) bool { return r[0].perSecond >= 300_000 }, ">= 300000",
		},
		{
			"hub processor time a frame",
			[]string{roundPeak},
			func(r []seen) string { return r[0].cpu.String() },
			func(r []seen) bool { return r[0].cpu <= 3*time.Microsecond }, "<= 3 us",
		},
		{
			"ack p99 at half of that",
			[]string{roundHalf},
			func(r []seen) string { return r[0].p99.String() },
			func(r []seen) bool { return r[0].p99 <= 15*time.Millisecond }, "<= 15 ms",
		},
		{
			"frames acked a second, 200 devices x 1",
			[]string{roundOne},
			func(r []seen) string { return fmt.Sprintf("%.0f", r[0].perSecond) },
			func(r []seen) bool { return r[0].perSecond >= 45_000 }, ">= 45000",
		},
		{
			"TLS beside plain",
			[]string{roundTLS, roundPeak},
			func(r []seen) string { return fmt.Sprintf("%.2f", over(r)) },
			func(r []seen) bool { return over(r) >= 0.7 }, ">= 0.7 x",
		},
		{
			"time a frame, many devices at 2/s, beside as many of 200",
			[]string{roundMany, roundFew},
			func(r []seen) string { return fmt.Sprintf("%.2f", cost(r)) },
			func(r []seen) bool { return cost(r) <= 2.5 }, "<= 2.5 x",
		},
		{
			fmt.Sprintf("ack p50 at 1,000 frames/s, in syncs of %s", b.fsync.P50.Round(time.Microsecond)),
			[]string{roundThousand, bareThousand},
			// At least the way of the bare server, which stores nothing, and one sync. Then in syncs with a pause between, as
			// those of this round have.
			func(r []seen) string {
				return fmt.Sprintf("%.2f (least %.2f; paced %.2f)", syncs(r[0].p50), syncs(r[1].p50)+1, float64(r[0].p50)/float64(b.paced.P50))
			},
			func(r []seen) bool { return syncs(r[0].p50) <= 2 }, "<= 2",
		},
		pair(pairHundred, "100 points a frame to InfluxDB, beside its own client", 0.9),
		pair(pairNew, "new series to InfluxDB, beside its own client", 1),
	}
}

func (b *ingestBench) printBars() {
	fmt.Fprintf(b.out, "\n%-60s %32s %12s\n", "what is asked", "measured", "bar")
	for _, x := range b.bars() {
		rounds, whole := make([]seen, len(x.of)), true
		for i, name := range x.of {
			got, ok := b.seen[name]
			rounds[i], whole = got, whole && ok
		}
		if !whole {
			continue // left out by --only, or it failed and said so
		}
		met := "met"
		if !x.met(rounds) {
			met = "not met"
		}
		fmt.Fprintf(b.out, "%-60s %32s %12s  %s\n", x.what, x.figure(rounds), x.want, met)
	}
}
