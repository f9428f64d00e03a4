package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// incoming is an answer of a device on its way into the log.
type incoming struct {
	device   string
	id       string
	entry    entry
	recorded func(error)
}

// lateAnswer is an answer to a command that is not in memory.
type lateAnswer = *incoming

// Answered hears what a device says of a command. recorded is called once, with nil when the answer is durable or
// needs no record (a repeated one, one to a command that never was), else with why it is not: then the device must
// not be told to forget it. It does not block, and keeps nothing of ans.
func (r *Router) Answered(a Attachment, ans *wire.Answer, recorded func(error)) {
	r.answered(a, ans, Confirmed, recorded)
}

// Observed is Answered for devices without a session of their own: evidence says how the answer is known.
func (r *Router) Observed(device string, ans *wire.Answer, evidence string, recorded func(error)) {
	r.answered(Attachment{Device: device, Node: r.node}, ans, evidence, recorded)
}

func (r *Router) answered(a Attachment, ans *wire.Answer, evidence string, recorded func(error)) {
	k, ok := answerKinds[ans.Kind]
	if !ok {
		recorded(nil)
		return
	}
	r.metrics.answers.WithLabelValues(string(ans.Kind)).Inc()
	id, try := splitTry(ans.ID)
	e := r.entry(k, id)
	e.Try = try
	e.Session, e.Epoch, e.Evidence = a.Session, a.Epoch, evidence
	most := maxTextBytes
	if k == progress {
		most = maxProgressBytes
	}
	e.Answer = &answer{
		Percent: ans.Percent, Message: clip(ans.Message, most), OK: ans.OK, Result: slices.Clone(ans.Result),
	}
	if ans.Error != nil {
		f := wire.Fault{Code: clip(ans.Error.Code, maxCodeBytes), Message: clip(ans.Error.Message, maxTextBytes)}
		e.Answer.Error, e.Detail = &f, f.Code
	}
	r.take(&incoming{device: a.Device, id: id, entry: e, recorded: recorded})
}

// clip is the beginning of a device's text.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}

var answerKinds = map[wire.AnswerKind]kind{wire.Accept: accept, wire.Progress: progress, wire.Result: result}

// take brings an answer to its command, wherever that is.
func (r *Router) take(in *incoming) {
	var fx effects
	r.mu.Lock()
	t := r.ledger.lookup(in.id)
	switch {
	case !r.started && len(r.early) < maxEarly:
		r.early = append(r.early, func() { r.take(in) })
	case !r.started:
		fx.calls = append(fx.calls, func() { in.recorded(ErrOverloaded) })
	case t == nil:
		fx.calls = append(fx.calls, func() { r.lookUpLater(in) })
	case t.delivering && len(t.held) < maxHeld:
		t.held = append(t.held, in)
	case t.delivering:
		fx.calls = append(fx.calls, func() { in.recorded(ErrOverloaded) })
	default:
		r.answerLocked(t, in, &fx)
	}
	r.mu.Unlock()
	r.run(&fx)
}

// answerLocked proposes the answer, unless it says nothing new.
func (r *Router) answerLocked(t *tracked, in *incoming, fx *effects) {
	reply := func(err error) { fx.calls = append(fx.calls, func() { in.recorded(err) }) }
	e := &in.entry
	switch {
	case t.device != in.device:
		r.metrics.ignored.WithLabelValues("foreign").Inc()
		reply(nil)
	case !t.legal(e):
		r.metrics.ignored.WithLabelValues("repeated").Inc()
		reply(nil)
	case e.Kind == progress && time.Since(t.progressAt) < progressEvery:
		r.metrics.ignored.WithLabelValues("too_often").Inc()
		reply(nil)
	case e.Kind == progress && !t.recordsProgress(e.Time):
		r.metrics.ignored.WithLabelValues("in_memory").Inc()
		t.progressAt, t.latest = time.Now(), e.Answer.progress()
		fx.changed = append(fx.changed, t.view(false))
		reply(nil)
	default:
		if e.Kind == progress {
			t.progressAt = time.Now()
		}
		if err := r.proposeAnswer(in); err != nil {
			reply(err)
		}
	}
}

// proposeAnswer hands an answer to the log, and again without its result if it is too large for the log: the device
// would repeat it for ever, and its command would never end as the device said. If it returns an error, recorded is not
// called.
func (r *Router) proposeAnswer(in *incoming) error {
	return r.propose(&proposal{device: in.device, entry: in.entry, done: func(_ *tracked, _ bool, err error) {
		if errors.Is(err, ErrTooLarge) && in.entry.dropResult() {
			r.metrics.dropped.Inc()
			if err = r.proposeAnswer(in); err == nil {
				return
			}
		}
		in.recorded(err)
	}}, in.entry.Kind == result)
}

// resultTooLarge is the error code of a result that the log has no room for. The state is what the device said.
const resultTooLarge = "result_too_large"

// dropResult takes the result out of an answer, says so in its place, and reports whether there was one.
func (e *entry) dropResult() bool {
	if e.Answer == nil || len(e.Answer.Result) == 0 {
		return false
	}
	said := fmt.Sprintf("the result of %d bytes does not fit the command log and was left out", len(e.Answer.Result))
	a := *e.Answer
	a.Result = nil
	if a.Error == nil {
		a.Error = &wire.Fault{Code: resultTooLarge, Message: said}
	}
	e.Answer, e.Detail = &a, resultTooLarge
	return true
}

// lookUpLater hands an answer over whose command must be read from the log.
func (r *Router) lookUpLater(in *incoming) {
	if _, _, ok := parseID(in.id); !ok {
		r.metrics.ignored.WithLabelValues("unknown").Inc()
		in.recorded(nil)
		return
	}
	select {
	case r.late <- in:
	default:
		in.recorded(ErrOverloaded)
	}
}

// resolveLate brings commands that ended long ago back into memory when a device still answers them.
func (r *Router) resolveLate(ctx context.Context) {
	for {
		select {
		case in := <-r.late:
			r.resolve(ctx, in)
		case <-ctx.Done():
			for {
				select {
				case in := <-r.late:
					in.recorded(ErrClosed)
				default:
					return
				}
			}
		}
	}
}

func (r *Router) resolve(ctx context.Context, in *incoming) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	_, err := r.recall(ctx, in.id)
	switch {
	case errors.Is(err, ErrNotFound):
		r.metrics.ignored.WithLabelValues("unknown").Inc()
		in.recorded(nil)
	case err != nil:
		in.recorded(err)
	default:
		r.take(in)
	}
}

// recall returns a command, from memory or, brought back there, from the log.
func (r *Router) recall(ctx context.Context, id string) (*tracked, error) {
	seq, _, ok := parseID(id)
	if !ok {
		return nil, ErrNotFound
	}
	for {
		r.mu.Lock()
		t, last := r.ledger.lookup(id), r.ledger.applied
		r.mu.Unlock()
		if t != nil {
			return t, nil
		}
		c, err := r.history.find(ctx, id, last)
		if err != nil {
			return nil, err
		}
		if c.state.Final() {
			return r.remember(c), nil
		}
		if seq <= last { // its key was another's: it never came to be
			if t := r.known(id); t != nil {
				return t, nil
			}
			return nil, ErrNotFound
		}
		// Another node made it just now; this one has not read so far.
		select {
		case <-time.After(readAgain):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (r *Router) known(id string) *tracked {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ledger.lookup(id)
}

// remember keeps a command that was read from the log.
func (r *Router) remember(c *command) *tracked {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.ledger.lookup(c.id)
	if t == nil {
		t = &tracked{command: *c, index: -1}
		r.ledger.remember(t)
	}
	return t
}

// readAgain is when a node looks again for what another made just now.
const readAgain = 2 * time.Millisecond
