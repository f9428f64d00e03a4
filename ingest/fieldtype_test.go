package ingest_test

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/internal/bus"
)

// A changed type holds on every node, for devices that have sent the field before as for new ones, and after a restart.
func TestFieldTypeIsChangedOnEveryNode(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	kv, err := b.Bucket(t.Context(), bus.BucketTypes)
	if err != nil {
		t.Fatal(err)
	}
	withTypes := func(o *ingest.Options) { o.Types = kv }
	here, stop := startCommitter(t, b.JetStream(), withTypes)
	there, _ := startCommitter(t, b.JetStream(), withTypes)
	a, far := here.Open("a", nil, nil), there.Open("far", nil, nil)
	const number, text = `{"type":"telemetry","seq":1,"fields":{"other":true,"temp":21}}`, `{"type":"telemetry","seq":1,"fields":{"temp":"warm"}}`
	wantTaken(t, a, number)
	wantTaken(t, far, number)
	wantReject(t, a, text, wire.TypeConflict, "fields.temp")

	if err := here.SetFieldType(t.Context(), ingest.FieldType{"telemetry", "temp", "string"}); err != nil {
		t.Fatal(err)
	}
	wantTaken(t, a, text)
	wantReject(t, a, number, wire.TypeConflict, "fields.temp")
	awaitType(t, there, "temp", "string")
	wantTaken(t, far, text)
	wantReject(t, there.Open("new", nil, nil), number, wire.TypeConflict, "fields.temp")

	// Integers are numbers like others, without a pattern in the configuration.
	if err := there.SetFieldType(t.Context(), ingest.FieldType{"telemetry", "temp", "integer"}); err != nil {
		t.Fatal(err)
	}
	wantReject(t, far, `{"type":"telemetry","seq":1,"fields":{"temp":21.5}}`, wire.InvalidField, "fields.temp")
	wantTaken(t, far, number)
	awaitType(t, here, "temp", "integer")
	stop()
	again, _ := startCommitter(t, b.JetStream(), withTypes)
	<-again.Ready()
	awaitType(t, again, "temp", "integer")

	// Forgotten, the next device decides.
	if err := again.ForgetFieldType(t.Context(), "telemetry", "temp"); err != nil {
		t.Fatal(err)
	}
	awaitType(t, there, "temp", "")
	wantTaken(t, again.Open("b", nil, nil), `{"type":"telemetry","seq":1,"fields":{"temp":false}}`)
	awaitType(t, there, "temp", "boolean")
	wantReject(t, far, number, wire.TypeConflict, "fields.temp")
	if got := again.FieldTypes(); !slices.Equal(got, []ingest.FieldType{{"telemetry", "other", "boolean"}, {"telemetry", "temp", "boolean"}}) {
		t.Errorf("%v", got)
	}
}

func TestFieldTypeRefusesWhatIsNone(t *testing.T) {
	b := openBus(t, t.TempDir(), false)
	c, _ := startCommitter(t, b.JetStream(), nil)
	for _, f := range []ingest.FieldType{{"m", "f", "double"}, {"m", "f", ""}, {"a b", "f", "float"}, {"m", "time", "float"}, {"", "f", "float"}} {
		if err := c.SetFieldType(t.Context(), f); !errors.Is(err, ingest.ErrBadType) {
			t.Errorf("%v: %v", f, err)
		}
	}
	if err := c.ForgetFieldType(t.Context(), "m", "f"); !errors.Is(err, ingest.ErrNoType) {
		t.Error(err)
	}
}

// Frames that come while a type changes are stored whole, as the one type or the other.
func TestFieldTypeChangesUnderLoad(t *testing.T) {
	const frames = 2000
	b := openBus(t, t.TempDir(), false)
	c, stop := startCommitter(t, b.JetStream(), nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		src := c.Open("a", nil, nil)
		for i := range frames {
			wantTaken(t, src, fmt.Sprintf(`{"type":"telemetry","seq":%d,"time":%d,"fields":{"x":1,"temp":%d,"y":2}}`, i+1, 1_700_000_000_000+i, i))
		}
	}()
	changes := 0
	for going := true; going; changes++ {
		kind := []string{"integer", "float"}[changes%2]
		if err := c.SetFieldType(t.Context(), ingest.FieldType{"telemetry", "temp", kind}); err != nil {
			t.Error(err)
		}
		select {
		case <-done:
			going = false
		default:
		}
	}
	stop()
	lines := logged(t, b)
	whole := regexp.MustCompile(`^telemetry,device=a x=1,temp=\d+i?,y=2 17000000\d{11}$`)
	for _, l := range lines {
		if !whole.MatchString(l) {
			t.Fatal(l)
		}
	}
	t.Logf("frames=%d changes=%d", len(lines), changes)
	if len(lines) != frames {
		t.Errorf("%d lines, want %d", len(lines), frames)
	}
}

func awaitType(t *testing.T, c *ingest.Committer, field, want string) {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		got, err := c.FieldType("telemetry", field)
		if got.Type == want && (err == nil || want == "") {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%s is %q, want %q (%v)", field, got.Type, want, err)
		}
	}
}
