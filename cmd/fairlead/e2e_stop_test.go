package main_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// sender is a device that sends and sends until its connection ends.
type sender struct {
	id    string
	acked uint64
	bye   frame
	code  int // of the close
}

// fleetOf connects devices that send; done ends once all connections have ended.
func fleetOf(t *testing.T, h *hub, n int) (all []*sender, firstBye <-chan struct{}, done *sync.WaitGroup) {
	t.Helper()
	begin := time.Now().Add(-time.Hour).UnixMilli()
	bye, once := make(chan struct{}), sync.Once{}
	done = &sync.WaitGroup{}
	var flowing sync.WaitGroup
	for i := range n {
		s := &sender{id: fmt.Sprintf("device-%d", i)}
		l := h.connect(t, s.id, h.addDevice(t, s.id, "plant-1"), jsonFrames)
		all = append(all, s)
		flowing.Add(1)
		done.Go(func() {
			told := sync.OnceFunc(flowing.Done)
			defer told()
			s.listen(l, told, func() { once.Do(func() { close(bye) }) })
		})
		done.Go(func() {
			pace := time.NewTicker(5 * time.Millisecond)
			defer pace.Stop()
			for seq := int64(1); ; seq++ {
				<-pace.C
				text := fmt.Sprintf(`{"type":"telemetry","seq":%d,"points":[{"time":%d,"fields":{"n":%d}}]}`, seq, begin+seq, seq)
				if l.ws.WriteMessage(websocket.TextMessage, []byte(text)) != nil {
					return // the hub has closed
				}
			}
		})
	}
	flowing.Wait()
	return all, bye, done
}

// listen notes acks until the connection ends.
func (s *sender) listen(l *link, acked, bye func()) {
	for {
		f, err := l.read()
		var closed *websocket.CloseError
		switch {
		case errors.As(err, &closed):
			s.code = closed.Code
			l.ws.Close()
			return
		case err != nil:
			l.ws.Close()
			return
		case f.Type == "bye":
			s.bye = f
			bye()
		case f.Type == "ack":
			s.acked = f.Seq
			acked()
		}
	}
}

// wantStored compares what a device was told is stored with what is.
func (s *sender) wantStored(t *testing.T, h *hub) {
	t.Helper()
	var rows []string
	until(t, fmt.Sprintf("%d readings of %s are stored", s.acked, s.id), func() bool {
		rows = h.rows(t, "SELECT n FROM telemetry WHERE device = '"+s.id+"'")
		return uint64(len(rows)) >= s.acked
	})
	for i := range s.acked {
		if !strings.HasSuffix(rows[i], fmt.Sprintf(" %d", i+1)) {
			t.Errorf("reading %d of %s was acked, and stored is %q", i+1, s.id, rows[i])
			return
		}
	}
}

// TestStopSaysGoodbye stops a hub to which devices send: each is told, and what was acked is there afterwards.
func TestStopSaysGoodbye(t *testing.T) {
	t.Parallel()
	h := serve(t, loopback)
	all, _, done := fleetOf(t, h, 20)
	h.stop()
	done.Wait()
	for _, s := range all {
		if s.bye.Reason != "draining" || fmt.Sprint(s.bye.Code) != "1012" || s.bye.RetryAfterMS <= 0 || s.code != 1012 || s.acked == 0 {
			t.Errorf("%s: %d acked, bye %+v, close %d", s.id, s.acked, s.bye, s.code)
		}
	}
	h.start()
	for _, s := range all {
		s.wantStored(t, h)
	}
	h.stop()
}

// TestSecondSignalAborts interrupts a long goodbye. The hub is gone at once, and still nothing acked is lost.
func TestSecondSignalAborts(t *testing.T) {
	t.Parallel()
	h := serve(t, strings.Replace(loopback, "drain_for: 500ms", "drain_for: 40s", 1))
	all, bye, done := fleetOf(t, h, 20)
	h.signal(syscall.SIGTERM)
	select {
	case <-bye:
	case <-time.After(waitBound):
		t.Fatal("no device is told")
	}
	h.signal(syscall.SIGTERM)
	h.wait()
	if status, ok := h.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Errorf("ended by %s, want by the second signal", h.cmd.ProcessState)
	}
	done.Wait()
	told := 0
	for _, s := range all {
		if s.bye.Type != "" {
			told++
		}
	}
	if told == len(all) {
		t.Error("the goodbye was over before the second signal")
	}
	h.start()
	for _, s := range all {
		s.wantStored(t, h)
	}
	h.stop()
}
