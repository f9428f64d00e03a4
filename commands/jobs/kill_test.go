package jobs_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/commands/jobs"
	"github.com/fairlead-hub/fairlead/internal/killtest"
)

// The hub that drives a job is killed with signal 9, again and again. It runs as a child of the test; what devices did is
// kept outside of it, in a file that outlives it.

const (
	childEnv = "FAIRLEAD_JOBS_CHILD"
	killKey  = "killed"
)

func killRequest() jobs.Request {
	return jobs.Request{
		Selector: "all", Order: jobs.Order{Name: "set"}, Actor: "ann", Concurrency: 200, IdempotencyKey: killKey,
		Rollout: jobs.Rollout{PerMinute: 100_000}, // so that the kills end before the job does, however fast the machine is
	}
}

// child is the hub that gets killed.
func child(dir string) error {
	f := fleetIn(killDevices, most)
	if err := f.keep(dir); err != nil {
		return err
	}
	b, err := openBus(filepath.Join(dir, "bus"))
	if err != nil {
		return err
	}
	h, err := startHub(b, f)
	if err != nil {
		return err
	}
	job, err := h.Create(context.Background(), killRequest())
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for { // until killed, or it is over
		if job, err = h.Find(context.Background(), job.ID); err != nil {
			return err
		}
		if job.Finished > 0 {
			fmt.Println("over")
		}
		<-time.After(time.Millisecond)
	}
}

func TestKilledDriver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kills := 0
	for kills < killRounds || acted(t, dir) == 0 { // on a busy machine the first kills may come before anybody has acted
		killtest.Once(t, childEnv, dir, time.Duration(60+40*kills)*time.Millisecond)
		kills++
	}
	f := newFleet(t, killDevices, most)
	if err := f.keep(dir); err != nil {
		t.Fatal(err)
	}
	before, _ := f.actions()
	b, err := openBus(filepath.Join(dir, "bus"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	h, err := startHub(b, f)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.stop(); err != nil {
			t.Error(err)
		}
	}()
	job, err := h.Create(within(t), killRequest()) // the same key: the same job
	if err != nil {
		t.Fatal(err)
	}
	at := job.Started
	job = h.until(t, job.ID, over)
	if job.State != jobs.Completed || job.Counts["succeeded"]+job.Counts["failed"] != killDevices || job.Counts["failed"] != killDevices*8/100 {
		t.Errorf("ended as %+v", job)
	}
	if before == killDevices {
		t.Errorf("killed %d times, and all devices had acted by then: the run shows too little", kills)
	}
	h.agree(t, job)
	if total, most := f.actions(); total != killDevices || most != 1 {
		t.Errorf("%d actions of %d devices, at most %d of one", total, killDevices, most)
	}
	t.Logf("%d kills: %d devices started and %d acted by the last, then %v", kills, at, before, job.Counts)
}

// acted is how many devices have acted by what is kept of them.
func acted(t *testing.T, dir string) int {
	t.Helper()
	f := &fleet{acted: make(map[string][]string)}
	if err := f.keep(dir); err != nil {
		t.Fatal(err)
	}
	defer f.ledger.Close()
	total, _ := f.actions()
	return total
}
