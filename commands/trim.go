package commands

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

const (
	trimAt    = 0.9
	trimShare = 5
	trimEvery = 2 * time.Second
)

// pinned is what may not be forgotten: nothing from lowest on, but that of devices none of whose open commands is as old;
// of those nothing from their own oldest one on.
type pinned struct {
	lowest uint64
	oldest func(device string) uint64
	last   uint64
}

func (r *Router) pinned() pinned {
	r.mu.Lock()
	defer r.mu.Unlock()
	return pinned{lowest: r.ledger.lowest(), last: r.ledger.applied, oldest: func(device string) uint64 {
		r.mu.Lock()
		defer r.mu.Unlock()
		oldest := uint64(math.MaxUint64)
		if p := r.pipes[device]; p != nil {
			for _, t := range p.open {
				oldest = min(oldest, t.seq)
			}
		}
		return oldest
	}}
}

// trim makes room when the log nears its limit: the oldest fifth goes, but nothing that is pinned. It returns the first
// sequence that was not looked at, or 0 if there was room.
func (h *history) trim(ctx context.Context, p pinned) (uint64, error) {
	info, err := h.stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("trim command log: %w", err)
	}
	st, limit := info.State, info.Config.MaxBytes
	if limit <= 0 || float64(st.Bytes) < trimAt*float64(limit) {
		return 0, nil
	}
	upTo := min(st.FirstSeq+(st.LastSeq-st.FirstSeq)/trimShare+1, p.lowest)
	if upTo <= st.FirstSeq {
		return h.trimBehind(ctx, p, st.Msgs/trimShare+1)
	}
	if err := h.stream.Purge(ctx, jetstream.WithPurgeSequence(upTo)); err != nil {
		return 0, fmt.Errorf("trim command log: %w", err)
	}
	return upTo, nil
}

// trimBehind makes room past a command that waits for long, device by device, until so many messages are gone.
func (h *history) trimBehind(ctx context.Context, p pinned, messages uint64) (uint64, error) {
	upTo := make(map[string]uint64)
	var next uint64
	err := h.read(ctx, "", p.lowest, p.last, func(l *logged) error {
		if messages == 0 {
			return errStop
		}
		if next = l.seq + 1; l.seq < p.oldest(l.device) {
			upTo[l.device] = next
			messages--
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("trim command log: %w", err)
	}
	for device, seq := range upTo {
		subject, err := bus.CommandSubject(device)
		if err == nil {
			err = h.stream.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(seq))
		}
		if err != nil {
			return 0, fmt.Errorf("trim command log: %w", err)
		}
	}
	return next, nil
}
