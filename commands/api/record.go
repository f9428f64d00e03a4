package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
)

const (
	enrollAction = "device.enroll"
	outcomeOK    = "ok"
	unknownActor = "unknown"
)

// record writes rec into the audit log.
func (a *API) record(ctx context.Context, rec Record) error {
	if err := a.audit.append(ctx, rec); err != nil {
		a.metrics.auditErrors.Inc()
		a.opts.Log.Error("audit record not written", "action", rec.Action, "actor", rec.Actor, "err", err)
		return ErrAuditUnavailable
	}
	return nil
}

// Audit records what the hub itself noticed or did. It returns once the record is on disk.
func (a *API) Audit(ctx context.Context, rec Record) error { return a.record(ctx, rec) }

// recordNow puts the change into the audit log while its handler goes on.
func (a *API) recordNow(c *call, status int) error {
	return a.recordOutcome(c, status, nil)
}

// recordOutcome puts a change and what became of it into the audit log, before it is answered.
func (a *API) recordOutcome(c *call, status int, err error) error {
	if c.endpoint.change == "" || c.recorded {
		return nil
	}
	c.recorded = true
	rec := c.audit
	if err == nil {
		rec.Outcome, rec.Status = outcomeOK, status
		return a.record(c.Context(), rec.named())
	}
	doc, _ := toProblem(err)
	rec.Outcome, rec.Status = doc.Code, doc.Status
	if c.handled && doubtful(err, doc.Status) {
		return a.record(c.Context(), rec.named())
	}
	return a.recordRefused(c.Context(), rec.Actor, rec)
}

// doubtful reports whether a change may have been made although its handler returned an error.
func doubtful(err error, status int) bool {
	return status >= http.StatusInternalServerError && !errors.Is(err, ErrOverloaded)
}

// recordRefused is record for refused changes, which anybody can repeat without end. They would push what was done out of
// the log, so beyond a bound of each caller only their number is kept. All whom the hub does not know are one caller.
func (a *API) recordRefused(ctx context.Context, caller string, rec Record) error {
	rec = rec.named()
	switch a.omissions.take(caller, rec) {
	case omitted:
		a.metrics.unrecorded.Inc()
		return nil
	case lastKept:
		// From here on the log is silent for a while; it says so even if the hub is killed before it tells the number.
		rec.Detail = "what follows of this caller is refused and not recorded, but counted; " + rec.Detail
	}
	return a.record(ctx, rec)
}

func (r Record) named() Record {
	r.Actor = cmp.Or(r.Actor, unknownActor)
	return r
}

// RecordEnroll puts what a device did with an enrollment into the audit log. Refused tries count as those of strangers: a
// device repeats them by itself.
func (a *API) RecordEnroll(ctx context.Context, rec Record) error {
	rec.Action = enrollAction
	if rec.Outcome != outcomeOK {
		return a.recordRefused(ctx, strangers, rec)
	}
	return a.record(ctx, rec.named())
}
