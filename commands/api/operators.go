package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/internal/selector"
)

// The bounds of the operators bucket.
const (
	maxOperators        = 1000
	maxSessionsPerOwner = 20
	maxLinksPerOwner    = 5

	// casAttempts is how often a change is tried against others that change the same record.
	casAttempts = 8
)

// FirstAdmin is the operator that a new hub makes.
const FirstAdmin = "admin"

// listOperators returns all records by name.
func (a *API) listOperators() []Operator {
	out := []Operator{}
	a.dir.each(operatorPrefix, func(_ string, s stored) bool {
		out = append(out, *s.value.(*Operator))
		return true
	})
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// ownActors are the actors of records that no operator caused.
var ownActors = []string{"hub", unknownActor}

// addOperator makes a record.
func (a *API) addOperator(ctx context.Context, op Operator) (Operator, error) {
	if err := errors.Join(checkName(op.Name), checkRole(op.Role)); err != nil {
		return Operator{}, err
	}
	if slices.Contains(ownActors, op.Name) {
		return Operator{}, &Invalid{Code: "invalid_name", Path: "name", Detail: "the audit log calls the hub's own doings and strangers " + strings.Join(ownActors, " and ") + ": choose another name"}
	}
	if err := checkSelector(&op.Selector); err != nil {
		return Operator{}, err
	}
	if len(a.listOperators()) >= maxOperators {
		return Operator{}, ErrTooManyOperators
	}
	// A new operator of an old name must not be reached by the old one's tokens.
	op.Created = a.opts.Now().UnixMilli()
	op.TokensNotBefore = a.beyond(0)
	err := a.dir.put(ctx, operatorKey(op.Name), 0, &op)
	if errors.Is(err, errConflict) {
		return Operator{}, ErrOperatorExists
	}
	return op, err
}

func checkSelector(s *string) error {
	sel, err := selector.Parse(*s)
	if err != nil {
		return &Invalid{Code: "invalid_selector", Path: "selector", Detail: err.Error()}
	}
	*s = sel.String()
	return nil
}

// changeOperator changes a record by change, and never leaves the hub without an admin.
func (a *API) changeOperator(ctx context.Context, name string, change func(*Operator)) (Operator, error) {
	for range casAttempts {
		old, rev, err := a.dir.operator(ctx, name)
		if err != nil {
			return Operator{}, err
		}
		op := *old
		change(&op)
		if err := errors.Join(checkRole(op.Role), checkSelector(&op.Selector)); err != nil {
			return Operator{}, err
		}
		if isFullAdmin(old) && !isFullAdmin(&op) && !a.otherAdmin(name) {
			return Operator{}, ErrLastAdmin
		}
		if err = a.dir.put(ctx, operatorKey(name), rev, &op); err == nil {
			return op, nil
		}
		if !errors.Is(err, errConflict) {
			return Operator{}, err
		}
		if err := a.refresh(ctx, operatorKey(name)); err != nil {
			return Operator{}, err
		}
	}
	return Operator{}, fmt.Errorf("operator %s: %w", name, errConflict)
}

// refresh reads what another node wrote before the watch brings it.
func (a *API) refresh(ctx context.Context, key string) error {
	e, err := a.dir.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return ErrOperatorNotFound
	}
	if err != nil {
		return fmt.Errorf("read operators: %w: %w", ErrUnavailable, err)
	}
	a.dir.apply(e)
	return nil
}

func isFullAdmin(op *Operator) bool { return op.Role == Admin && !op.Disabled && op.Selector == "" }

func (a *API) otherAdmin(name string) bool {
	found := false
	a.dir.each(operatorPrefix, func(_ string, s stored) bool {
		op := s.value.(*Operator)
		found = op.Name != name && isFullAdmin(op)
		return !found
	})
	return found
}

// removeOperator deletes the record; tokens and sessions die with it.
func (a *API) removeOperator(ctx context.Context, name string) error {
	for range casAttempts {
		op, rev, err := a.dir.operator(ctx, name)
		if err != nil {
			return err
		}
		if isFullAdmin(op) && !a.otherAdmin(name) {
			return ErrLastAdmin
		}
		if err = a.dir.remove(ctx, operatorKey(name), rev); !errors.Is(err, errConflict) {
			return err
		}
		if err := a.refresh(ctx, operatorKey(name)); err != nil {
			return err
		}
	}
	return fmt.Errorf("operator %s: %w", name, errConflict)
}

// revokeOperator ends all tokens, sessions and links of name that were made before now.
func (a *API) revokeOperator(ctx context.Context, name string) (Operator, error) {
	return a.changeOperator(ctx, name, func(op *Operator) {
		op.TokensNotBefore = a.beyond(op.TokensNotBefore)
	})
}

// beyond is a time that no token of before now is as young as, whichever node dated it by its own clock, nor one that was
// dated notBefore because of an earlier revocation.
func (a *API) beyond(notBefore int64) int64 {
	return max(a.opts.Now().Add(a.opts.Skew).UnixMilli(), notBefore) + 1
}

// jobRole is who makes jobs and acts on them.
const jobRole = Admin

// JobMaker returns an operator who made a job, as its record is now, and why it may make none any more; empty: it may.
func (a *API) JobMaker(ctx context.Context, name string) (op Operator, barred string, err error) {
	rec, _, err := a.dir.operator(ctx, name)
	switch {
	case errors.Is(err, ErrOperatorNotFound):
		return Operator{}, fmt.Sprintf("operator %s was removed", name), nil
	case err != nil:
		return Operator{}, "", err
	case rec.Disabled:
		barred = fmt.Sprintf("operator %s is disabled", name)
	case !rec.Role.may(jobRole):
		barred = fmt.Sprintf("operator %s is %s now, and jobs are made by the role %s", name, rec.Role, jobRole)
	}
	return *rec, barred, nil
}

// MintToken makes a token for an operator, bound to sel beside what the operator is bound to. A ttl of 0 is the
// default.
func (a *API) MintToken(ctx context.Context, name, sel string, ttl time.Duration) (token string, expires time.Time, err error) {
	if ttl == 0 {
		ttl = a.opts.TokenTTL
	}
	if ttl < time.Second || ttl > a.opts.MaxTokenTTL {
		return "", time.Time{}, &Invalid{Code: "invalid_ttl", Path: "ttl", Detail: fmt.Sprintf("ttl %s: want 1s to %s", ttl, a.opts.MaxTokenTTL)}
	}
	bind, err := selector.Parse(sel)
	if err != nil {
		return "", time.Time{}, &Invalid{Code: "invalid_selector", Path: "selector", Detail: err.Error()}
	}
	op, _, err := a.dir.operator(ctx, name)
	if err != nil {
		return "", time.Time{}, err
	}
	token, c, err := a.tokens.mint(op.Name, bind, ttl, op.TokensNotBefore)
	if err != nil {
		return "", time.Time{}, err
	}
	return token, time.Unix(c.Expires, 0), nil
}

// EnsureAdmin makes the operator FirstAdmin if nobody could administer the hub, and reports whether it did.
func (a *API) EnsureAdmin(ctx context.Context) (made bool, err error) {
	if a.otherAdmin("") {
		return false, nil
	}
	_, err = a.addOperator(ctx, Operator{Name: FirstAdmin, Role: Admin})
	if errors.Is(err, ErrOperatorExists) {
		_, err = a.changeOperator(ctx, FirstAdmin, func(op *Operator) {
			op.Role, op.Disabled, op.Selector = Admin, false, ""
		})
	}
	if err != nil {
		return false, fmt.Errorf("make the first admin: %w", err)
	}
	return true, a.record(ctx, Record{Actor: "hub", Action: "operator.create", Target: FirstAdmin, Outcome: "ok", Detail: "first admin"})
}
