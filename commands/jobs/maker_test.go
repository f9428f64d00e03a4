package jobs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/commands"
	"github.com/fairlead-hub/fairlead/commands/jobs"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// Maker is what the operator of a name is now; as long as nobody said otherwise, it may everything.
func (f *fleet) Maker(_ context.Context, name string) (jobs.Maker, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.makers[name], nil
}

func (f *fleet) Stopped(_ context.Context, job jobs.Job) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unrecorded > 0 {
		f.unrecorded--
		return errors.New("the audit log is away")
	}
	f.stopped = append(f.stopped, job)
	return nil
}

// succeed has a device answer a command well.
func (f *fleet) succeed(device, id string) {
	f.mu.Lock()
	r, session := f.router, f.session
	f.mu.Unlock()
	a := &wire.Answer{Kind: wire.Result, ID: id, OK: true}
	r.Answered(commands.Attachment{Device: device, Session: session, Epoch: 1, Node: "n1"}, a, func(error) {})
}

// rewriteJob changes the stored record of a job that nobody drives.
func rewriteJob(t testing.TB, b *bus.Bus, id string, change func(stored map[string]any)) {
	t.Helper()
	kv, err := b.Bucket(within(t), bus.BucketJobs)
	if err != nil {
		t.Fatal(err)
	}
	e, err := kv.Get(within(t), id+".job")
	if err != nil {
		t.Fatal(err)
	}
	stored := make(map[string]any)
	dec := json.NewDecoder(bytes.NewReader(e.Value()))
	dec.UseNumber()
	if err := dec.Decode(&stored); err != nil {
		t.Fatal(err)
	}
	change(stored)
	data, err := json.Marshal(stored)
	if err == nil {
		_, err = kv.Put(within(t), id+".job", data)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// forgetResults removes what was stored of a job's devices.
func forgetResults(t testing.TB, b *bus.Bus, id string) {
	t.Helper()
	if err := b.Forget(within(t), bus.BucketJobs, id+".results.>"); err != nil {
		t.Fatal(err)
	}
}

// change changes the world of a fleet while a job is at work.
func (f *fleet) change(now func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now()
}

// begun is a job of a fleet whose first devices are silent, so that it has begun, and goes on when they answer.
func begun(t *testing.T, h *hub, q jobs.Request) jobs.Job {
	t.Helper()
	q.Concurrency = 3
	return h.until(t, h.create(t, q).ID, func(j jobs.Job) bool { return j.Counts["sent"] == 3 })
}

// release has the first devices answer what they were sent.
func release(t *testing.T, h *hub, job jobs.Job) {
	t.Helper()
	for device, r := range h.results(t, job.ID) {
		if r.Command != "" {
			h.fleet.work <- func() { h.fleet.succeed(device, r.Command) }
		}
	}
}

func firstSilent(i int) string {
	if i < 3 {
		return "silent"
	}
	return "ok"
}

// A device that its job may not reach by now gets nothing, and the job says why: one that left what its maker is bound
// to, one that what its maker is bound to by now leaves out, and one that is another device than when the job was made.
func TestJobReachesOnlyWhatItsMakerStillMay(t *testing.T) {
	f := newFleet(t, 12, firstSilent)
	h := start(t, f)
	f.change(func() { f.makers["ann"] = jobs.Maker{Since: 1, Within: "third in (0,1,2)"} })
	job := begun(t, h, jobs.Request{Within: "third in (0,1,2)"})
	f.change(func() {
		f.moved[name(4)] = "9"
		f.births[name(5)]++
		f.moved[name(6)] = "2" // still what ann may
		f.makers["ann"] = jobs.Maker{Since: 1, Within: "third in (1,2,9)"}
	})
	release(t, h, job)
	job = h.until(t, job.ID, over)
	if job.State != jobs.Completed || job.Counts[jobs.Refused] != 4 || job.Counts["succeeded"] != 8 {
		t.Errorf("ended as %+v", job)
	}
	h.agree(t, job)
	all := h.results(t, job.ID)
	for i, code := range map[int]string{3: "not_permitted", 4: "not_permitted", 5: "device_replaced", 6: "", 7: "", 9: "not_permitted"} {
		if got := all[name(i)]; got.Code != code {
			t.Errorf("%+v, want the code %q", got, code)
		}
		if n := len(f.acted[name(i)]); (n == 0) != (code != "") {
			t.Errorf("%s acted %d times", name(i), n)
		}
	}
}

// What the token was bound to that made a job holds as long as the job does, and outlives the driver.
func TestJobStaysWithinTheTokenThatMadeIt(t *testing.T) {
	f := newFleet(t, 12, firstSilent)
	b, err := openBus(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	h, err := startHub(b, f)
	if err != nil {
		t.Fatal(err)
	}
	job := begun(t, h, jobs.Request{Within: "third notin (9)"})
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	f.change(func() { f.moved[name(4)] = "9"; f.births[name(5)]++ })
	if h, err = startHub(b, f); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.stop() }()
	release(t, h, job)
	job = h.until(t, job.ID, over)
	if all := h.results(t, job.ID); all[name(4)].Code != "not_permitted" || all[name(5)].Code != "device_replaced" || job.Counts["succeeded"] != 10 {
		t.Errorf("ended as %+v: %+v, %+v", job, all[name(4)], all[name(5)])
	}
	h.agree(t, job)
}

// A job whose maker may make no jobs any more is cancelled by the hub, at work or paused, with the reason and a record,
// and starts nothing from then on; what waits is taken back.
func TestJobEndsWithTheRightsOfItsMaker(t *testing.T) {
	for _, tt := range []struct {
		what       string
		now        jobs.Maker
		paused     bool
		unrecorded int // times that the audit log takes no record
	}{
		{"disabled", jobs.Maker{Since: 1, Barred: "operator ann is disabled"}, false, 1},
		{"another of its name", jobs.Maker{Since: 2}, true, 0},
		{"bound to nonsense", jobs.Maker{Since: 1, Within: "="}, false, 0},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 12, firstSilent)
			f.offline[name(0)] = true
			h := start(t, f)
			f.change(func() { f.makers["ann"], f.makers["bob"] = jobs.Maker{Since: 1}, jobs.Maker{Since: 1} })
			job := h.create(t, jobs.Request{Concurrency: 3})
			h.until(t, job.ID, func(j jobs.Job) bool { return j.Counts["sent"] == 2 })
			if tt.paused {
				if _, err := h.Steer(within(t), job.ID, jobs.Pause, "bob"); err != nil {
					t.Fatal(err)
				}
			}
			bobs := h.create(t, jobs.Request{Actor: "bob", Devices: []string{name(3), name(4)}})
			f.change(func() { f.makers["ann"], f.unrecorded = tt.now, tt.unrecorded })
			job = h.until(t, job.ID, func(j jobs.Job) bool { return j.State == jobs.Cancelled })
			release(t, h, job)
			job = h.until(t, job.ID, over)
			if job.Reason == "" || job.ChangedBy != "hub" || job.Started != 3 || job.Counts["cancelled"] != 1 {
				t.Errorf("ended as %+v", job)
			}
			c, err := h.router.Command(within(t), h.results(t, job.ID)[name(0)].Command)
			if err != nil || c.State != commands.Cancelled || c.Events[len(c.Events)-1].Actor != "hub" {
				t.Errorf("taken back as %+v, %v", c, err)
			}
			if b := h.until(t, bobs.ID, over); b.State != jobs.Completed || b.Counts["succeeded"] != 2 {
				t.Errorf("the job of another: %+v", b)
			}
			f.change(func() {
				if len(f.stopped) != 1 || f.stopped[0].ID != job.ID || f.stopped[0].Reason != job.Reason {
					t.Errorf("recorded: %+v", f.stopped)
				}
				if len(f.acted[name(5)]) != 0 {
					t.Errorf("%s acted on %v", name(5), f.acted[name(5)])
				}
			})
		})
	}
}

// A job that was stored before lists said which device had an id goes on with whoever has it now.
func TestListOfBareIDsIsRead(t *testing.T) {
	f := newFleet(t, 3, fine)
	b, err := openBus(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	h, err := startHub(b, f, configs.Approval{Commands: []string{"wipe"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.stop() }()
	job := h.create(t, jobs.Request{Order: jobs.Order{Name: "wipe"}})
	rewriteJob(t, b, job.ID, func(stored map[string]any) {
		delete(stored, "maker_since")
		delete(stored, "place")
	})
	kv, err := b.Bucket(within(t), bus.BucketJobs)
	if err == nil {
		_, err = kv.PutString(within(t), job.ID+".devices."+job.List+".0", `["d00000","d00001","d00002"]`)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.change(func() { f.births[name(1)]++; f.makers["ann"] = jobs.Maker{Since: 7} })
	if _, err := h.Steer(within(t), job.ID, jobs.Approve, "bob"); err != nil {
		t.Fatal(err)
	}
	if job = h.until(t, job.ID, over); job.Counts["succeeded"] != 3 {
		t.Errorf("ended as %+v", job)
	}
	h.agree(t, job)
}

// What a job takes back as it aborts was cancelled by the hub, not by who made the job.
func TestAbortedJobIsNotCancelledByItsMaker(t *testing.T) {
	f := newFleet(t, 4, func(int) string { return "fail" })
	f.offline[name(0)] = true
	h := start(t, f)
	job := h.until(t, h.create(t, jobs.Request{AbortIf: jobs.AbortIf{FailedPercent: 10, After: 3}}).ID, over)
	if job.State != jobs.Aborted || job.Counts["cancelled"] != 1 {
		t.Fatalf("ended as %+v", job)
	}
	c, err := h.router.Command(within(t), h.results(t, job.ID)[name(0)].Command)
	if err != nil || c.State != commands.Cancelled || c.Events[len(c.Events)-1].Actor != "hub" {
		t.Errorf("taken back as %+v, %v", c, err)
	}
}

// Nobody makes a job who may make none by the time that it is stored.
func TestBarredMakerMakesNoJob(t *testing.T) {
	f := newFleet(t, 3, fine)
	h := start(t, f)
	f.change(func() { f.makers["ann"] = jobs.Maker{Barred: "operator ann is disabled"} })
	if _, err := h.Create(within(t), jobs.Request{Selector: "all", Actor: "ann", Order: jobs.Order{Name: "set"}}); !errors.Is(err, jobs.ErrBarred) {
		t.Errorf("made: %v", err)
	}
	h.until(t, h.create(t, jobs.Request{Actor: "bob"}).ID, over)
}

// A job's command is found by its place in the log, whatever the clocks say: here the hub's was set back after the job
// was made. Without, a job that is cancelled would say of a command that it never was.
func TestCancelledJobFindsItsCommandsAfterTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, func(int) string { return "silent" })
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
	job := h.until(t, h.create(t, jobs.Request{}).ID, func(j jobs.Job) bool { return j.Counts["sent"] == 1 })
	// A later command to the device is the first that a search meets.
	if _, err := h.router.Create(within(t), commands.Request{Device: name(0), Name: "other", Actor: "ann"}); err != nil {
		t.Fatal(err)
	}
	made := h.results(t, job.ID)[name(0)].Command
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	rewriteJob(t, b, job.ID, func(stored map[string]any) {
		stored["created"], stored["state"] = time.Now().Add(time.Hour).UnixMilli(), jobs.Cancelled
	})
	forgetResults(t, b, job.ID) // as if the driver had died before it could store them
	f.offline[name(0)] = true
	if h, err = startHub(b, f); err != nil {
		t.Fatal(err)
	}
	var got jobs.Result
	h.until(t, job.ID, func(jobs.Job) bool { got = h.results(t, job.ID)[name(0)]; return got.State != jobs.Pending })
	if got.Command != made {
		t.Fatalf("what the job says: %+v, want the command %s", got, made)
	}
	f.succeed(name(0), made)
	if job = h.until(t, job.ID, over); job.Counts["succeeded"] != 1 {
		t.Errorf("ended as %+v", job)
	}
}

// A restart does not start one more device at once, and a clock that was set back holds up nobody longer than a gap.
func TestPaceGoesOnAfterARestart(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, tt := range []struct {
		what string
		last time.Duration // before now
		n    int
		wait time.Duration
	}{
		{"just now", 0, 0, time.Minute},
		{"half a gap ago", 30 * time.Second, 0, 30 * time.Second},
		{"a gap ago", time.Minute, 1, time.Minute},
		{"long ago", time.Hour, 1, time.Minute},
		{"in an hour", -time.Hour, 0, time.Minute},
	} {
		p := jobs.NewPacer(jobs.Rollout{PerMinute: 1})
		p.Resume(now, now.Add(-tt.last), 1)
		if n, wait := p.Take(now, 1, 10); n != tt.n || wait != tt.wait {
			t.Errorf("%s: %d at once, the next in %s, want %d and %s", tt.what, n, wait, tt.n, tt.wait)
		}
	}
}
