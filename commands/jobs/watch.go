package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// watch keeps known as the bucket is.
func (j *Jobs) watch(ctx context.Context) {
	for ctx.Err() == nil {
		if err := j.watchOnce(ctx); err != nil && ctx.Err() == nil {
			j.log.Warn("watch jobs", "err", err)
		}
		select {
		case <-time.After(retryDelay):
		case <-ctx.Done():
		}
	}
}

func (j *Jobs) watchOnce(ctx context.Context) error {
	w, err := j.store.kv.WatchFiltered(ctx, []string{"*." + jobKey, "*." + progressKey})
	if err != nil {
		return fmt.Errorf("watch jobs: %w", err)
	}
	defer w.Stop()
	for {
		select {
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return errors.New("watch ended")
			case e != nil:
				j.heard(e)
			default:
				select {
				case <-j.ready:
				default:
					close(j.ready)
				}
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (j *Jobs) heard(e jetstream.KeyValueEntry) {
	id, kind, _ := strings.Cut(e.Key(), ".")
	switch {
	case e.Operation() != jetstream.KeyValuePut:
		if kind == jobKey {
			j.forgotten(id, e.Revision())
		}
	case kind == jobKey:
		var job Job
		if json.Unmarshal(e.Value(), &job) == nil && job.ID == id {
			j.take(id, &job, e.Revision())
		}
	case kind == progressKey:
		var p progress
		if json.Unmarshal(e.Value(), &p) == nil {
			j.takeProgress(id, p, e.Revision())
		}
	}
}
