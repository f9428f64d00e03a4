package jobs_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/commands/jobs"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// most is a fleet of which 8 % fail.
func most(i int) string {
	if i%25 < 2 {
		return "fail"
	}
	return "ok"
}

func fine(int) string { return "ok" }

const many = 5000

func TestJobReachesEveryDeviceOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, many, most)
	h := start(t, f)
	job := h.until(t, h.create(t, jobs.Request{AbortIf: jobs.AbortIf{FailedPercent: 20, After: 100}}).ID, over)
	if job.State != jobs.Completed || job.Counts["failed"] != many*8/100 || job.Counts["succeeded"] != many*92/100 {
		t.Errorf("ended as %+v", job)
	}
	h.agree(t, job)
	if total, _ := f.actions(); total != many {
		t.Errorf("%d actions of %d devices", total, many)
	}
}

// Two requests with one key at the same time: one makes the job, and that one's devices get the command.
func TestKeyTakenTwiceAtOnceReachesTheRightDevices(t *testing.T) {
	f := newFleet(t, 2, fine)
	h := start(t, f)
	for round := range 40 {
		made := make([]jobs.Job, 2)
		failed := make([]error, 2)
		var both sync.WaitGroup
		for i := range made {
			both.Go(func() {
				made[i], failed[i] = h.Create(within(t), jobs.Request{
					Devices: []string{name(i)}, Order: jobs.Order{Name: "set"}, Actor: "ann", IdempotencyKey: fmt.Sprint(round),
				})
			})
		}
		both.Wait()
		winner := 0
		if failed[0] != nil {
			winner = 1
		}
		if failed[winner] != nil || !errors.Is(failed[1-winner], commands.ErrKeyReused) {
			t.Fatalf("round %d: %v, %v", round, failed[0], failed[1])
		}
		h.until(t, made[winner].ID, over)
		for device := range h.results(t, made[winner].ID) {
			if device != name(winner) {
				t.Fatalf("round %d: the job of %s reached %s", round, name(winner), device)
			}
		}
	}
}

func TestJobAbortsAtItsLimit(t *testing.T) {
	t.Parallel()
	f := newFleet(t, many, most)
	h := start(t, f)
	const concurrency, after = 50, 500
	job := h.until(t, h.create(t, jobs.Request{Concurrency: concurrency, AbortIf: jobs.AbortIf{FailedPercent: 5, After: after}}).ID, over)
	if job.State != jobs.Aborted || job.Reason == "" {
		t.Fatalf("ended as %+v", job)
	}
	// No more than were on their way when the limit was reached.
	if job.Started < after || job.Started > after+2*concurrency {
		t.Errorf("%d devices started, want %d and those on their way", job.Started, after)
	}
	h.agree(t, job)
	if total, _ := f.actions(); total > job.Started {
		t.Errorf("%d devices acted, %d started", total, job.Started)
	}
	t.Logf("aborted after %d devices: %s; %v", job.Started, job.Reason, job.Counts)
}

func TestDriverGoesOnAfterAnother(t *testing.T) {
	t.Parallel()
	// The driver ends and another one goes on, again and again, while the router stays.
	f := newFleet(t, 2000, most)
	b, err := openBus(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	h, err := startHub(b, f)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.stop() }()
	job := h.create(t, jobs.Request{Concurrency: 64})
	at := 0
	for range 4 {
		job = h.until(t, job.ID, func(j jobs.Job) bool { return j.Started > at })
		if over(job) {
			break
		}
		at = job.Started
		if err := h.stop(); err != nil {
			t.Fatal(err)
		}
		if h, err = startHub(b, f); err != nil {
			t.Fatal(err)
		}
	}
	job = h.until(t, job.ID, over)
	if job.State != jobs.Completed || job.Counts["failed"] != 160 {
		t.Errorf("ended as %+v", job)
	}
	h.agree(t, job)
}

func TestForgottenJobIsGoneOnEveryNode(t *testing.T) {
	f := newFleet(t, 5, fine)
	b, err := openBus(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	h, err := startHub(b, f)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.stop() }()
	other, stop, err := startJobs(b, h.router, f)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stop() }()
	const again = "again"
	job := h.until(t, h.create(t, jobs.Request{IdempotencyKey: again}).ID, over)
	seen := func(present bool) {
		t.Helper()
		ctx := within(t)
		for {
			_, err := other.Find(ctx, job.ID)
			if present && err == nil || !present && errors.Is(err, jobs.ErrNotFound) {
				return
			}
			select {
			case <-time.After(2 * time.Millisecond):
			case <-ctx.Done():
				t.Fatalf("the other node: %v, want the job there: %t", err, present)
			}
		}
	}
	seen(true)
	if err := h.Forget(within(t), job.ID); err != nil {
		t.Fatal(err)
	}
	seen(false)
	kv, err := b.Bucket(within(t), bus.BucketJobs)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := kv.Keys(within(t)); !errors.Is(err, jetstream.ErrNoKeysFound) {
		t.Errorf("left in the bucket: %q, %v", keys, err)
	}
	if job = h.until(t, h.create(t, jobs.Request{IdempotencyKey: again}).ID, over); job.Counts["succeeded"] != 5 {
		t.Errorf("made again with the same key: %+v", job)
	}
	seen(true)
}

func TestPauseResumeCancel(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 300, func(i int) string {
		if i >= 100 {
			return "silent"
		}
		return "ok"
	})
	for i := 100; i < 200; i++ {
		f.offline[name(i)] = true
	}
	h := start(t, f)
	job := h.create(t, jobs.Request{Concurrency: 20, Rollout: jobs.Rollout{PerMinute: 6000}})
	steer := func(a jobs.Action) jobs.Job {
		t.Helper()
		got, err := h.Steer(within(t), job.ID, a, "bob")
		if err != nil {
			t.Fatal(a, err)
		}
		return got
	}
	h.until(t, job.ID, func(j jobs.Job) bool { return j.Started > 10 })
	if got := steer(jobs.Pause); got.State != jobs.Paused || got.ChangedBy != "bob" {
		t.Errorf("paused: %+v", got)
	}
	if _, err := h.Steer(within(t), job.ID, jobs.Pause, "bob"); !errors.Is(err, jobs.ErrWrongState) {
		t.Errorf("paused twice: %v", err)
	}
	// What was started ends, and nothing more starts.
	paused := h.until(t, job.ID, func(j jobs.Job) bool { return j.Counts["succeeded"] == j.Started })
	steer(jobs.Resume)
	h.until(t, job.ID, func(j jobs.Job) bool { return j.Started > paused.Started })
	job = h.until(t, job.ID, func(j jobs.Job) bool { return j.Counts["succeeded"] == 100 && j.Started == 120 })
	steer(jobs.Cancel)
	job = h.until(t, job.ID, over)
	if job.State != jobs.Cancelled || job.Counts["succeeded"] != 100 || job.Counts["cancelled"] != 20 || job.Counts[jobs.Pending] != 180 {
		t.Errorf("cancelled: %+v", job)
	}
	h.agree(t, job)
	if _, err := h.Steer(within(t), job.ID, jobs.Resume, "bob"); !errors.Is(err, jobs.ErrWrongState) {
		t.Errorf("resumed after its end: %v", err)
	}
	if _, err := h.Steer(within(t), "Jnone", jobs.Pause, "bob"); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("no such job: %v", err)
	}
}

func TestPreviewAndRefusals(t *testing.T) {
	f := newFleet(t, 30, fine)
	f.specs = map[string]wire.CommandSpec{
		"set":    {Name: "set", Params: []byte(`{"type":"object","required":["n"]}`)},
		"reboot": {Name: "reboot", Dangerous: true},
	}
	f.offline[name(3)] = true
	h := start(t, f)
	targets, err := h.Preview(within(t), jobs.Request{Selector: "third=0", Order: jobs.Order{Name: "reboot"}})
	if err != nil || len(targets) != 10 || targets[1].Device != name(3) || targets[1].Online || !targets[0].Online {
		t.Errorf("preview: %v %+v", err, targets)
	}
	if total, _ := f.actions(); total != 0 {
		t.Errorf("a preview made %d devices act", total)
	}
	if page, _, err := h.List(within(t), "", "", 10); err != nil || len(page) != 0 {
		t.Errorf("a preview made jobs: %v %v", err, page)
	}
	delete(f.offline, name(3))
	targets, err = h.Preview(within(t), jobs.Request{Selector: "all", Within: "third=1", Order: jobs.Order{Name: "none"}})
	if err != nil || len(targets) != 10 || jobs.Refusal(targets[0].Refusal) != "unknown_command" {
		t.Errorf("preview of an unknown command: %v %+v", err, targets)
	}

	q := jobs.Request{Selector: "third=0", Order: jobs.Order{Name: "reboot"}, Actor: "ann"}
	var confirm *jobs.ConfirmError
	if _, err := h.Create(within(t), q); !errors.As(err, &confirm) || confirm.Total != 10 || !errors.Is(err, commands.ErrConfirmRequired) {
		t.Errorf("dangerous: %v", err)
	}
	q.Confirm = 10
	if job := h.until(t, h.create(t, q).ID, over); job.Counts["succeeded"] != 10 {
		t.Errorf("confirmed: %+v", job)
	}
	// One of the devices is another operator's, and the parameters fit none: refused, each with its reason.
	if _, _, err := h.router.Hold(within(t), name(0), "bob", time.Hour, false); err != nil {
		t.Fatal(err)
	}
	job := h.until(t, h.create(t, jobs.Request{Devices: []string{name(0), name(1)}}).ID, over)
	if job.Total != 2 || job.Counts[jobs.Refused] != 2 {
		t.Errorf("refused: %+v", job)
	}
	all := h.results(t, job.ID)
	if all[name(0)].Code != "device_held" || all[name(1)].Code != "invalid_params" {
		t.Errorf("refused: %+v", all)
	}
	for _, c := range []struct {
		q    jobs.Request
		want error
	}{
		{jobs.Request{Order: jobs.Order{Name: "set"}}, commands.ErrInvalidRequest},
		{jobs.Request{Selector: "third=7", Order: jobs.Order{Name: "set"}}, jobs.ErrNoDevices},
		{jobs.Request{Selector: "=", Order: jobs.Order{Name: "set"}}, commands.ErrInvalidRequest},
		{jobs.Request{Selector: "all", Order: jobs.Order{Name: ""}}, commands.ErrInvalidRequest},
		{jobs.Request{Selector: "all", Order: jobs.Order{Name: "set"}, Concurrency: -1}, commands.ErrInvalidRequest},
		{jobs.Request{Selector: "all", Order: jobs.Order{Name: "set"}, AbortIf: jobs.AbortIf{FailedPercent: 101}}, commands.ErrInvalidRequest},
		{jobs.Request{Selector: "all", Order: jobs.Order{Name: "set"}, Rollout: jobs.Rollout{PerMinute: -1}}, commands.ErrInvalidRequest},
		{jobs.Request{Selector: "all", Order: jobs.Order{Name: "set"}, Rollout: jobs.Rollout{Growth: 2}}, commands.ErrInvalidRequest},
		{jobs.Request{Selector: "all", Order: jobs.Order{Name: "set"}, Rollout: jobs.Rollout{PerMinute: 1, Growth: 0.5}}, commands.ErrInvalidRequest},
	} {
		if _, err := h.Create(within(t), c.q); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.q, err, c.want)
		}
	}
}

// A job that names a device which is not there, or which its maker may not command, is refused as a whole and says which.
func TestNamedDevicesMustBeKnown(t *testing.T) {
	f := newFleet(t, 4, fine)
	h := start(t, f)
	q := jobs.Request{Order: jobs.Order{Name: "set"}, Actor: "ann", IdempotencyKey: "k", Devices: []string{name(0), name(3)}, Within: "third=0"}
	for path, c := range map[string]struct {
		within string
		last   string
	}{"/devices/2": {"third=0", "d99999"}, "/devices/0": {"third=1", name(3)}} {
		bad := q
		bad.Within, bad.IdempotencyKey, bad.Devices = c.within, "bad", append(slices.Clone(q.Devices), c.last)
		_, err := h.Create(within(t), bad)
		var fault *commands.InvalidError
		if !errors.As(err, &fault) || fault.Path != path {
			t.Errorf("%v: %v, want a fault at %s", bad.Devices, err, path)
		}
		if _, err := h.Preview(within(t), bad); !errors.As(err, &fault) || fault.Path != path {
			t.Errorf("looked at first: %v", err)
		}
	}
	job := h.until(t, h.create(t, q).ID, over)
	if page, _, err := h.List(within(t), "", "", 5); err != nil || len(page) != 1 || job.Total != 2 {
		t.Errorf("%+v, all of them %+v, %v", job, page, err)
	}
	f.change(func() { f.count = 3 }) // a device of the job that was made is gone: the same request is still that job
	if again := h.create(t, q); again.ID != job.ID {
		t.Errorf("made again: %+v", again)
	}
}

func TestSameKeySameJob(t *testing.T) {
	f := newFleet(t, 10, fine)
	h := start(t, f)
	q := jobs.Request{Selector: "all", Order: jobs.Order{Name: "set"}, Actor: "ann", IdempotencyKey: "k"}
	first := h.create(t, q)
	if again := h.create(t, q); again.ID != first.ID {
		t.Errorf("a second job: %+v", again)
	}
	h.until(t, first.ID, over)
	q.Order.Name = "other"
	if _, err := h.Create(within(t), q); !errors.Is(err, commands.ErrKeyReused) {
		t.Errorf("another body: %v", err)
	}
	q.Actor = "bob"
	if other := h.create(t, q); other.ID == first.ID {
		t.Error("another operator's key is the same")
	}
	page, next, err := h.List(within(t), "", "", 1)
	if err != nil || len(page) != 1 || next == "" || page[0].Actor != "bob" {
		t.Errorf("list: %v %+v", err, page)
	}
	if page, next, err = h.List(within(t), "", next, 5); err != nil || len(page) != 1 || next != "" || page[0].ID != first.ID {
		t.Errorf("second page: %v %+v", err, page)
	}
	if page, _, err := h.List(within(t), "bob", "", 5); err != nil || len(page) != 1 {
		t.Errorf("list of one: %v %+v", err, page)
	}
}

func TestJobNeedsSecondOperator(t *testing.T) {
	f := newFleet(t, 30, fine)
	h := start(t, f, configs.Approval{Selector: "third=1", Commands: []string{"wipe"}})
	job := h.create(t, jobs.Request{Order: jobs.Order{Name: "wipe"}})
	if job.State != jobs.Awaiting {
		t.Fatalf("not waiting: %+v", job)
	}
	if _, err := h.Steer(within(t), job.ID, jobs.Approve, "ann"); !errors.Is(err, commands.ErrSelfApproval) {
		t.Errorf("approved by who asked: %v", err)
	}
	if total, _ := f.actions(); total != 0 {
		t.Errorf("%d devices acted before the approval", total)
	}
	if _, err := h.Steer(within(t), job.ID, jobs.Approve, "bob"); err != nil {
		t.Fatal(err)
	}
	if job = h.until(t, job.ID, over); job.Counts["succeeded"] != 30 || job.ApprovedBy != "bob" {
		t.Errorf("approved: %+v", job)
	}
	job = h.create(t, jobs.Request{Order: jobs.Order{Name: "wipe"}})
	if _, err := h.Steer(within(t), job.ID, jobs.Cancel, "ann"); err != nil {
		t.Fatal(err)
	}
	if job = h.until(t, job.ID, over); job.State != jobs.Cancelled || job.Counts[jobs.Pending] != 30 {
		t.Errorf("cancelled: %+v", job)
	}
}

func TestRates(t *testing.T) {
	constant, growing := jobs.Rollout{PerMinute: 60}, jobs.Rollout{PerMinute: 60, Growth: 1.5}
	for _, c := range []struct {
		r       jobs.Rollout
		started int
		want    float64
	}{
		{constant, 0, 60},
		{constant, 5000, 60},
		{growing, 0, 60},
		{growing, 59, 60},
		{growing, 60, 90},
		{growing, 149, 90},
		{growing, 150, 135},
		{growing, 1 << 30, jobs.MaxPerMinute},
	} {
		if got := c.r.Rate(c.started); got != c.want {
			t.Errorf("%+v after %d: %v a minute, want %v", c.r, c.started, got, c.want)
		}
	}
	// One in a thousand years is slow, not at once.
	slow := jobs.NewPacer(jobs.Rollout{PerMinute: 1e-9})
	start := time.Unix(1_000_000, 0)
	if n, wait := slow.Take(start, 0, 10); n != 1 || wait < time.Hour {
		t.Errorf("nearly never: %d at once, the next in %s", n, wait)
	}
	// A minute of the clock starts a minute's worth, whatever the steps.
	for _, step := range []time.Duration{time.Millisecond, 17 * time.Millisecond, 250 * time.Millisecond} {
		p := jobs.NewPacer(growing)
		now, started := time.Unix(1_000_000, 0), 0
		at := map[int]int{}
		for elapsed := time.Duration(0); elapsed < 3*time.Minute; elapsed += step {
			n, wait := p.Take(now.Add(elapsed), started, 10)
			if started += n; n == 0 && wait <= 0 {
				t.Fatal("nothing to start and nothing to wait for")
			}
			at[int(elapsed/time.Minute)] = started
		}
		if got := fmt.Sprint(at[0], at[1], at[2]); got != "60 150 285" {
			t.Errorf("steps of %s: %s", step, got)
		}
	}
}

// A job that can only wait for its devices does not look for work all the time: what ends wakes it.
func TestWaitingJobRests(t *testing.T) {
	for _, tt := range []struct {
		what                      string
		rollout                   jobs.Rollout
		concurrency, total, ended int
	}{
		{"as many are open as may be", jobs.Rollout{}, 5, 10, 0},
		{"some have ended, others began", jobs.Rollout{}, 3, 10, 2},
		{"all have begun", jobs.Rollout{}, 1000, 5, 2},
		{"the same at a rate", jobs.Rollout{PerMinute: 600}, 5, 10, 0},
	} {
		job := jobs.Job{Total: tt.total, Concurrency: tt.concurrency, Rollout: tt.rollout}
		if wait, err := jobs.Idle(t.Context(), job, 5, tt.ended); err != nil || wait < time.Second {
			t.Errorf("%s: looks again after %s (%v), want 1s", tt.what, wait, err)
		}
	}
}
