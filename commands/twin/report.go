package twin

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// Reported takes a merge patch of what the device says it is. It does not block: an error says that nothing was taken,
// else it is stored soon, together with what else the device reports until then.
func (t *Twin) Reported(device string, r *wire.StateReport) error {
	t.metrics.reports.Inc()
	err := t.report(device, r)
	if err != nil {
		t.metrics.refuse(reported, err)
		return fmt.Errorf("reported state of %s: %w", device, err)
	}
	return nil
}

func (t *Twin) report(device string, r *wire.StateReport) error {
	if len(r.Reported) > maxPatch {
		return fmt.Errorf("%w: a report of %d bytes, at most %d", ErrTooLarge, len(r.Reported), maxPatch)
	}
	patch, err := parsePatch(r.Reported)
	if err != nil {
		return err
	}
	if !t.devices.Known(device) {
		return ErrUnknownDevice
	}
	for {
		waits, m, idle := t.reports.look(device)
		all := patch
		if waits != nil {
			all = composePatch(waits, patch)
		}
		_, changed, err := t.docs.half(device, reported).patched(all)
		if err != nil {
			return err
		}
		if idle && !changed && t.isReady() {
			t.metrics.unchanged.Inc()
			return nil
		}
		bytes := weigh(all)
		if bytes > maxWaiting {
			return fmt.Errorf("%w: too many changes wait to be stored", ErrTooLarge)
		}
		if done, err := t.reports.put(device, m, all, bytes); done || err != nil {
			return err
		}
	}
}

// writeReports stores what waits, at a bounded rate.
func (t *Twin) writeReports(ctx context.Context) {
	for {
		if t.reports.limit.Wait(ctx) != nil {
			return
		}
		device, patch, ok := t.reports.next(ctx)
		if !ok {
			return
		}
		_ = t.writeReport(context.WithoutCancel(ctx), device, patch) // told, and tried again
	}
}

// writeReport stores the reports of one device. They wait again if the bucket cannot take them now.
func (t *Twin) writeReport(ctx context.Context, device string, patch map[string]any) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	changed, err := t.change(ctx, change{device: device, half: reported, patch: patch})
	switch {
	case err == nil && changed:
		t.reports.written(device, nil)
		t.metrics.reportWrites.Inc()
		t.announce(device)
	case err == nil:
		t.reports.written(device, nil)
		t.metrics.unchanged.Inc()
	case errors.Is(err, ErrUnknownDevice): // deleted meanwhile
		t.reports.written(device, nil)
	case errors.Is(err, ErrTooLarge): // only by what another node stored meanwhile
		t.reports.written(device, nil)
		t.metrics.refuse(reported, err)
		t.log.Warn("reported state dropped", "device_id", device, "err", err)
	default:
		if t.reports.written(device, patch) {
			t.log.Warn("reported state not stored, trying again", "device_id", device, "err", err)
		}
		return err
	}
	return nil
}

// drainReports stores what waits when the node stops, without rests.
func (t *Twin) drainReports() error {
	if t.reports.drain() == 0 || !t.isReady() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	var writers errgroup.Group
	for range reportWriters {
		writers.Go(func() error {
			var failed error
			for {
				device, patch, ok := t.reports.next(ctx)
				if !ok {
					return failed
				}
				if err := t.writeReport(ctx, device, patch); err != nil {
					failed = err
				}
			}
		})
	}
	if err := writers.Wait(); err != nil {
		return fmt.Errorf("reported states: not all stored: %w", err)
	}
	return nil
}
