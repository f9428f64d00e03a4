package ingest

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// When the log is cut.
const (
	cutEvery = 100 * time.Millisecond
	// cutBehind is instead of cutEvery while the writer is behind and nobody knows the log's files: a cut within one costs
	// much, but each file that goes takes its time as well, so not too seldom.
	cutBehind = time.Second
)

// cut cuts the log below the lowest cursor. A stream that removes what was acked by itself would sync each removal.
//
// Nothing is committed meanwhile. To cut within a file reads it, and writes the rest of it anew, so while much is cut this
// is done where one file ends and the next begins.
func (w *Writer) cut(ctx context.Context) error {
	tick := time.NewTicker(cutEvery)
	defer tick.Stop()
	f := files{list: w.files}
	var outlets share
	var below uint64 // is gone
	var last time.Time
	told := false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		late := w.Lag() > behind
		if late && !f.known() && time.Since(last) < cutBehind || !w.wrote.Swap(false) {
			continue
		}
		last = time.Now()
		written := w.written()
		floor := w.floor(ctx, written, &outlets)
		if late {
			floor = f.whole(floor)
		}
		if floor < written {
			w.wrote.Store(true) // look again, for what is left
		}
		if floor <= below {
			continue
		}
		if err := w.log.Purge(ctx, jetstream.WithPurgeSequence(floor+1)); err != nil {
			w.wrote.Store(true)
			if ctx.Err() == nil && !told {
				told = true // until it works again
				w.slog.Warn("cut the log", "err", err)
			}
			continue
		}
		told = false
		below = floor
	}
}

// files are those that the log lies in, by the batch that each begins with.
type files struct {
	list   func() []uint64 // looks at them, from the oldest on; nil: nobody can
	starts []uint64        // as of the last look
}

func (f *files) known() bool { return f.list != nil }

// whole is up to where files are wholly at or below floor; floor itself if that cannot be told. Those that were there at
// the last look stay as they are, but for the last: so another look is due only when that has begun.
func (f *files) whole(floor uint64) uint64 {
	if !f.known() {
		return floor
	}
	if len(f.starts) == 0 || f.starts[len(f.starts)-1] <= floor+1 {
		f.starts = f.list()
	}
	n, found := slices.BinarySearch(f.starts, floor+1)
	if found || n == 0 || f.starts[n-1] == 0 { // n == 0: the oldest file would begin behind what the log begins with
		return floor
	}
	return f.starts[n-1] - 1
}

// How far an outlet may be behind the writer before batches are cut away from under it: a dead broker must not fill the log,
// which then takes no points of any device.
const (
	outletBacklog = 20_000 // batches
	// outletShare is the part of the log, one in so many, that outlets may keep filled. Batches may be large and the log
	// small, so their number alone bounds nothing.
	outletShare = 2
	// shareEvery is how often it is looked at, and only while an outlet holds something back: the log is asked for it.
	shareEvery = time.Second
)

// share is what outlets may keep of the log.
type share struct {
	looked time.Time
	ends   uint64 // up to here it is cut, whoever has not had it
}

// look asks the log how full it is, unless that was done just now.
func (s *share) look(ctx context.Context, log Log) {
	now := time.Now()
	if now.Sub(s.looked) < shareEvery {
		return
	}
	s.looked = now
	if info, err := log.Info(ctx); err == nil { // what was known before still holds
		s.ends = shareEnds(info)
	}
}

// shareEnds is the last batch that has to go so that no more than the outlets' share is left; 0 if none has to. It takes
// batches to be of one size: another look corrects that.
func shareEnds(log *jetstream.StreamInfo) uint64 {
	holds, most := log.State.Bytes, uint64(max(log.Config.MaxBytes, 0))/outletShare
	if most == 0 || holds <= most || log.State.Msgs == 0 {
		return 0
	}
	batch := max(holds/log.State.Msgs, 1)
	return log.State.FirstSeq - 1 + (holds-most+batch-1)/batch
}

// floor is up to where all cursors are, the writer's being at written, but for outlets that have used up their share.
func (w *Writer) floor(ctx context.Context, written uint64, s *share) uint64 {
	lowest := written
	list := w.log.ListConsumers(ctx)
	for info := range list.Info() {
		if strings.HasPrefix(info.Name, outletPrefix) {
			lowest = min(lowest, info.AckFloor.Stream)
		}
	}
	if list.Err() != nil {
		return 0
	}
	if lowest == written {
		return written
	}
	if written > outletBacklog {
		lowest = max(lowest, written-outletBacklog)
	}
	s.look(ctx, w.log)
	return max(lowest, min(s.ends, written))
}
