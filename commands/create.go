package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Create records a command and sends it on its way. It returns once the command is durable; an OnlineOnly command also
// has left the queue by then, or is refused with ErrOffline. With an idempotency key that was used before for the same
// request it returns the command made then.
//
// A context that ends meanwhile ends only the waiting: the command may have been recorded.
func (r *Router) Create(ctx context.Context, q Request) (Command, error) {
	if err := r.awaitReady(ctx); err != nil {
		return Command{}, err
	}
	c, err := r.createOnce(ctx, &q)
	if err != nil {
		r.metrics.refuse(err)
	}
	return c, err
}

// createOnce looks for the key before it asks whether the command may be: what a repeated request made is there,
// whatever has changed since.
func (r *Router) createOnce(ctx context.Context, q *Request) (Command, error) {
	o, err := r.read(q)
	if err != nil {
		return Command{}, err
	}
	r.mu.Lock()
	_, known, err := r.keyLocked(o, time.Now())
	r.mu.Unlock()
	switch {
	case err != nil:
		return Command{}, err
	case known != "":
		return r.Command(ctx, known)
	}
	if err := r.allow(q, o); err != nil {
		return Command{}, err
	}
	return r.create(ctx, q, o)
}

func (r *Router) create(ctx context.Context, q *Request, o *order) (Command, error) {
	for {
		t, busy, known, err := r.admit(ctx, q, o)
		switch {
		case err != nil:
			return Command{}, err
		case known != "":
			return r.Command(ctx, known)
		case busy != nil: // the same key is on its way
			select {
			case <-busy:
			case <-ctx.Done():
				return Command{}, ctx.Err()
			}
		case t == nil: // another node was first with this key
		case q.OnlineOnly:
			return r.awaitLeft(ctx, t)
		default:
			return r.snapshot(t), nil
		}
	}
}

// admit records a command if there is room for it. It returns instead the id of the command that the key stands for,
// or what to wait for while that is being made.
func (r *Router) admit(ctx context.Context, q *Request, o *order) (t *tracked, busy chan struct{}, known string, err error) {
	node, online := r.presence.Node(q.Device)
	now := time.Now()
	e := r.entry(created, "")
	e.Time, e.Actor = now.UnixMilli(), q.Actor
	ord := *o
	begin := now
	if q.NotBefore.After(now) {
		begin, ord.NotBefore = q.NotBefore, q.NotBefore.UnixMilli()
	}
	ord.Suffix, ord.Expires = newSuffix(), begin.Add(r.ttl(q)).UnixMilli()
	e.Order, e.Detail = &ord, ord.detail()
	type answer struct {
		t   *tracked
		err error
	}
	heard := make(chan answer, 1)

	r.mu.Lock()
	var p *pipe
	if busy, known, err = r.keyLocked(&ord, now); err == nil && busy == nil && known == "" {
		if p, err = r.roomLocked(q.Device); err == nil && q.OnlineOnly && !online {
			r.tidyLocked(p)
			p, err = nil, ErrOffline
		}
	}
	if p == nil {
		r.mu.Unlock()
		return nil, busy, known, err
	}
	if online && ord.NotBefore == 0 && !ord.Approval && p.idle(r.cfg.SentPerDevice) {
		ord.Grant = node
	}
	p.pending++
	if ord.Key != "" {
		r.keys.pending[ord.Key] = make(chan struct{})
	}
	prop := &proposal{device: q.Device, entry: e, done: func(t *tracked, _ bool, err error) {
		r.admitted(q.Device, ord.Key)
		heard <- answer{t, err}
	}}
	// Proposed under the lock: the log has the commands of a device in the order in which they were let in.
	err = r.propose(prop, true)
	r.mu.Unlock()
	if err != nil {
		r.admitted(q.Device, ord.Key)
		return nil, nil, "", err
	}
	select {
	case a := <-heard:
		if errors.Is(a.err, ErrTooLarge) { // commands.params_bytes is above what the log takes
			a.err = invalid("/params", ErrTooLarge.Error())
		}
		return a.t, nil, "", a.err
	case <-ctx.Done():
		return nil, nil, "", ctx.Err()
	}
}

// keyLocked looks the idempotency key up: it stands for a command, or somebody is making one with it.
func (r *Router) keyLocked(o *order, now time.Time) (busy chan struct{}, known string, err error) {
	if o.Key == "" {
		return nil, "", nil
	}
	k := r.keys.find(o.Key, now)
	switch {
	case k == nil:
		return r.keys.pending[o.Key], "", nil
	case k.body != o.Body:
		return nil, "", ErrKeyReused
	}
	return nil, k.id, nil
}

// admitted ends an admission, however it went.
func (r *Router) admitted(device, key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.pipes[device]; p != nil {
		p.pending--
		r.tidyLocked(p)
	}
	if key != "" {
		close(r.keys.pending[key])
		delete(r.keys.pending, key)
	}
}

// roomLocked returns the device's pipe if one more command may go in.
func (r *Router) roomLocked(device string) (*pipe, error) {
	if len(r.ledger.open) >= r.cfg.MaxOpen || r.ledger.openBytes >= maxOpenBytes {
		return nil, ErrOverloaded
	}
	p := r.pipeLocked(device)
	if n := p.waiting(); n >= r.cfg.QueuePerDevice {
		r.tidyLocked(p)
		return nil, fmt.Errorf("%w: %d commands wait for %s", ErrQueueFull, n, device)
	}
	return p, nil
}

// ttl is how long the command may wait. What is for now or never gets the time that its answer has.
func (r *Router) ttl(q *Request) time.Duration {
	switch {
	case q.OnlineOnly:
		return r.timeout(q)
	case q.TTL == 0:
		return r.cfg.DefaultTTL
	}
	return q.TTL
}

func (r *Router) timeout(q *Request) time.Duration {
	if q.Timeout == 0 {
		return r.cfg.DefaultTimeout
	}
	return q.Timeout
}

// read reports what is wrong with a request by itself, and makes an order of it.
func (r *Router) read(q *Request) (*order, error) {
	if err := r.checkForm(q); err != nil {
		return nil, err
	}
	params, err := r.compact(q.Params)
	if err != nil {
		return nil, err
	}
	o := &order{Name: q.Name, Params: params, TimeoutMS: r.timeout(q).Milliseconds(), OnlineOnly: q.OnlineOnly, Job: q.Job}
	if err := r.checkCourse(q, o); err != nil {
		return nil, err
	}
	o.Key, o.Body = digests(q, o)
	return o, nil
}

// allow reports why the command cannot be now, and notes whether it needs a second operator.
func (r *Router) allow(q *Request, o *order) error {
	born, known := r.devices.Born(q.Device)
	switch {
	case !known:
		return ErrUnknownDevice
	case q.Born != 0 && q.Born != born:
		return ErrOtherDevice
	}
	o.Born = born
	if q.Permit != nil {
		if err := q.Permit(); err != nil {
			return err
		}
	}
	if err := r.checkLease(q, born); err != nil {
		return err
	}
	spec, announced, known := r.devices.Spec(q.Device, q.Name)
	if announced && !known {
		return fmt.Errorf("%w: %q", ErrUnknownCommand, q.Name)
	}
	if known {
		if err := r.schemas.check(spec.Params, o.Params); err != nil {
			return err
		}
		if spec.Dangerous && q.Confirm != q.Device {
			return ErrConfirmRequired
		}
	}
	return r.checkApproval(q, o)
}

func (r *Router) checkForm(q *Request) error {
	switch {
	case q.Name == "" || len(q.Name) > maxNameBytes || !printable(q.Name):
		return invalid("/name", fmt.Sprintf("must be 1 to %d printable characters", maxNameBytes))
	case q.TTL < 0 || q.TTL > r.cfg.MaxTTL:
		return invalid("/ttl", fmt.Sprintf("must be at most %s", r.cfg.MaxTTL))
	case q.TTL > 0 && q.TTL < time.Millisecond:
		return invalid("/ttl", "must be at least 1ms")
	case q.Timeout < 0 || q.Timeout > r.cfg.MaxTimeout:
		return invalid("/timeout", fmt.Sprintf("must be at most %s", r.cfg.MaxTimeout))
	case q.Timeout > 0 && q.Timeout < time.Millisecond:
		return invalid("/timeout", "must be at least 1ms")
	case len(q.IdempotencyKey) > maxKeyBytes:
		return invalid("", fmt.Sprintf("Idempotency-Key: must be at most %d bytes", maxKeyBytes))
	case len(q.Actor) > maxActorBytes:
		return invalid("", fmt.Sprintf("actor: must be at most %d bytes", maxActorBytes))
	}
	return nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// compact checks that params are JSON of bounded size, and drops the blanks.
func (r *Router) compact(params json.RawMessage) (json.RawMessage, error) {
	if len(params) == 0 {
		return nil, nil
	}
	if len(params) > r.cfg.ParamsBytes {
		return nil, invalid("/params", fmt.Sprintf("%d bytes; must be at most %d", len(params), r.cfg.ParamsBytes))
	}
	var b bytes.Buffer
	if err := json.Compact(&b, params); err != nil {
		return nil, invalid("/params", err.Error())
	}
	return b.Bytes(), checkNumbers(b.Bytes())
}

// checkNumbers refuses numbers beyond any float: half of the devices could not read them [RFC8259 6].
func checkNumbers(params []byte) error {
	dec := json.NewDecoder(bytes.NewReader(params))
	dec.UseNumber()
	for {
		t, err := dec.Token()
		if err != nil {
			return nil //nolint:nilerr // the end: the syntax was checked before
		}
		if n, ok := t.(json.Number); ok {
			if _, err := n.Float64(); err != nil {
				return invalid("/params", fmt.Sprintf("number %.40s is out of range", n))
			}
		}
	}
}
