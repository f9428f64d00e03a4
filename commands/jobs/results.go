package jobs

import (
	"context"
	"strconv"

	"github.com/fairlead-hub/fairlead/commands"
)

// Results returns what became of the devices of a job, in the order of their ids, from the one after cursor on; state
// leaves out those in another one. What commands that are open have come to is as this node knows it now; what has ended
// is as it was counted.
func (j *Jobs) Results(ctx context.Context, id, state, cursor string, limit int) (page []Result, next string, err error) {
	job, err := j.Find(ctx, id)
	if err != nil {
		return nil, "", err
	}
	at := 0
	if cursor != "" {
		at, err = strconv.Atoi(cursor)
		if err != nil || at < 0 {
			return nil, "", &commands.InvalidError{Kind: commands.ErrInvalidRequest, Path: "cursor", Message: "is not a cursor of this list"}
		}
	}
	for at < job.Total {
		devices, results, err := j.chunk(ctx, &job, at/chunkDevices)
		if err != nil {
			return nil, "", err
		}
		for i := at % chunkDevices; i < len(devices); i++ {
			if len(page) == limit {
				return page, strconv.Itoa(at), nil
			}
			at++
			if r := j.fresh(devices[i].ID, results, i); state == "" || r.State == state {
				page = append(page, r)
			}
		}
	}
	return page, "", nil
}

func (j *Jobs) chunk(ctx context.Context, job *Job, n int) (devices []member, results []stored, err error) {
	if devices, err = j.store.devices(ctx, job.ID, job.List, n); err == nil {
		_, err = j.store.get(ctx, chunkKey(job.ID, resultsKey, n), &results)
	}
	return devices, results, err
}

func (j *Jobs) fresh(device string, results []stored, i int) Result {
	r := Result{Device: device, State: Pending}
	if i >= len(results) || results[i].State == "" {
		return r
	}
	s := results[i]
	r.Command, r.State, r.Code = s.Command, s.State, s.Code
	if s.Command != "" && !commands.State(s.State).Final() {
		if c, ok := j.router.Peek(s.Command); ok && !c.State.Final() {
			r.State = string(c.State)
		}
	}
	return r
}
