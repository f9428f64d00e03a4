package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fairlead-hub/fairlead/internal/load"
)

// side is one of two ways to InfluxDB that are held against each other.
type side struct {
	acked  float64   // points a second acknowledged to the devices while measured
	stored float64   // points a second from the first frame until InfluxDB held the last
	points int64     // stored, by InfluxDB's own count; all that were acknowledged
	cpu    []float64 // seconds a point of each process
}

// loadThrough loads, waits until InfluxDB has taken all that was acknowledged, and counts it there. It fails if anything
// is missing or there twice.
func loadThrough(ctx context.Context, spec load.Spec, store *influxd) (got load.Result, s side, err error) {
	base, err := store.written(ctx)
	if err != nil {
		return got, s, err
	}
	before, err := usedBy(spec.PIDs)
	if err != nil {
		return got, s, err
	}
	if got, err = runLoad(spec); err != nil {
		return got, s, err
	}
	at, err := store.await(ctx, base+int64(got.Points))
	if err != nil {
		return got, s, err
	}
	after, err := usedBy(spec.PIDs)
	if err != nil {
		return got, s, err
	}
	if s.points, err = store.count(ctx); err != nil {
		return got, s, err
	}
	s.acked = float64(got.Frames) * float64(max(spec.Points, 1)) / got.Seconds
	s.stored = float64(got.Points) / at.Sub(time.Unix(0, got.Began)).Seconds()
	for i := range after {
		s.cpu = append(s.cpu, (after[i]-before[i])/float64(got.Points))
	}
	return got, s, whole(got, s.points)
}

// whole fails if anything acknowledged is missing or anything is there twice.
func whole(got load.Result, stored int64) error {
	switch {
	case got.Rejected > 0 || got.Broken > 0:
		return fmt.Errorf("%d frames rejected, %d connections broken", got.Rejected, got.Broken)
	case got.Acked != got.Sent:
		return fmt.Errorf("%d of %d frames acknowledged in the end", got.Acked, got.Sent)
	case uint64(stored) != got.Points:
		return fmt.Errorf("%d points acknowledged, %d stored", got.Points, stored)
	}
	return nil
}

// usedBy is the processor time that each process has used.
func usedBy(pids []int) ([]float64, error) {
	used := make([]float64, len(pids))
	var errs []error
	for i, pid := range pids {
		var err error
		used[i], err = load.CPU(pid)
		errs = append(errs, err)
	}
	return used, errors.Join(errs...)
}

// median of at least one value.
func median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	if n := len(all); n%2 == 0 {
		return (all[n/2-1] + all[n/2]) / 2
	}
	return all[len(all)/2]
}

// spread tells several repeats of one figure: their median, and the least and the most.
type spread []float64

func (s spread) String() string {
	if len(s) == 1 {
		return fmt.Sprintf("%.2f", s[0])
	}
	return fmt.Sprintf("%.2f (%.2f-%.2f)", median(s), slices.Min(s), slices.Max(s))
}
