package bus_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// looker is one node's marks and what it has heard.
type looker struct {
	*bus.Marks
	stop func()

	mu sync.Mutex
	on map[string]bool
	n  int // changes
}

func look(t *testing.T, b *bus.Bus, lease time.Duration) *looker {
	t.Helper()
	l := &looker{on: map[string]bool{}}
	m, err := b.Marks("telemetry", lease, func(name string, on bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.on[name] == on {
			t.Errorf("told twice that %s is %v", name, on)
		}
		l.on[name] = on
		l.n++
	})
	if err != nil {
		t.Fatal(err)
	}
	l.Marks = m
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	var once sync.Once
	l.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(l.stop)
	return l
}

func (l *looker) want(t *testing.T, name string, on bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		got := l.on[name]
		l.mu.Unlock()
		if got == on {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is marked: %v, want %v", name, got, on)
		}
	}
}

func TestMarksReachEveryNode(t *testing.T) {
	b := open(t, t.TempDir())
	defer b.Close()
	here, there := look(t, b, time.Minute), look(t, b, time.Minute)
	here.Mark("pump-7", true)
	here.Mark("pump-7", true)
	there.want(t, "pump-7", true)
	// Each of two lookers keeps it marked.
	there.Mark("pump-7", true)
	late := look(t, b, time.Minute) // hears at once what was said before it came
	late.want(t, "pump-7", true)
	here.Mark("pump-7", false)
	here.Mark("pump-7", false)
	here.Mark("pump-8", true)
	there.want(t, "pump-8", true)
	late.want(t, "pump-8", true)
	for _, l := range []*looker{here, there, late} {
		l.want(t, "pump-7", true)
	}
	there.stop() // an orderly end takes its marks along
	late.want(t, "pump-7", false)
	here.want(t, "pump-7", false)
	// More names than one message holds.
	for i := range 2500 {
		here.Mark(fmt.Sprint("d", i), true)
	}
	for i := range 2500 {
		late.want(t, fmt.Sprint("d", i), true)
	}
}

func TestMarksOfADeadNodeEnd(t *testing.T) {
	b := open(t, t.TempDir())
	defer b.Close()
	const lease = 300 * time.Millisecond
	here, alive := look(t, b, lease), look(t, b, lease)
	alive.Mark("held", true)
	here.want(t, "held", true) // it hears by now
	// A node that marks and is never heard again.
	if err := b.Conn().Publish("mark.telemetry", []byte(`{"from":"dead","on":["held","left"]}`)); err != nil {
		t.Fatal(err)
	}
	here.want(t, "left", true)
	here.want(t, "held", true)
	here.want(t, "left", false)
	here.want(t, "held", true) // said again by who lives
	if err := b.Conn().Publish("mark.telemetry", []byte(`not a mark`)); err != nil {
		t.Fatal(err)
	}
	alive.Mark("held", false)
	here.want(t, "held", false)
}
