package devices_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices"
	"github.com/fairlead-hub/fairlead/internal/selector"
)

// labelled is an import that makes a device's labels these.
func labelled(id string, kv ...string) devices.Import {
	return devices.Import{ID: id, Apply: func(r *devices.Record, _ bool) error {
		r.Labels = map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			r.Labels[kv[i]] = kv[i+1]
		}
		return nil
	}}
}

// outcomes is one letter for each import: made, changed, same, error.
func outcomes(all []devices.Imported) (s string) {
	for _, o := range all {
		switch {
		case o.Err != nil:
			s += "e"
		case o.Made:
			s += "m"
		case o.Changed:
			s += "c"
		default:
			s += "s"
		}
	}
	return s
}

func TestImportIsIdempotent(t *testing.T) {
	b := openBus(t, t.TempDir())
	t.Cleanup(func() { b.Close() })
	one, two := openRecords(t, b), openRecords(t, b)
	im := devices.NewImporter(one, b.JetStream())
	ctx := t.Context()
	if _, err := one.Create(ctx, &devices.Record{ID: "gone"}); err != nil {
		t.Fatal(err)
	}
	if err := one.Delete(ctx, "gone", 0); err != nil {
		t.Fatal(err)
	}
	refusal := errors.New("not that one")
	all := []devices.Import{
		labelled("a", "site", "1"),
		labelled("b", "site", "1"),
		labelled("a b"),
		labelled("c", "bad key", "1"),
		{ID: "d", Apply: func(*devices.Record, bool) error { return refusal }},
		labelled("e", "site", "1"),
		labelled("f:g", "site", "1"),
		labelled("gone", "site", "1"),
		labelled("a", "site", "2"),
		labelled("h"),
		labelled("i"),
		labelled("j"),
	}
	got := im.Import(ctx, all)
	if outcomes(got) != "mmeeemmmcmmm" || !errors.Is(got[2].Err, devices.ErrInvalid) || !errors.Is(got[4].Err, refusal) {
		t.Fatalf("%s %v", outcomes(got), got)
	}
	rec, _ := one.Record("a")
	if rec.Labels["site"] != "2" || rec.Created.IsZero() {
		t.Fatalf("%+v", rec)
	}
	eventually(t, "the other node has them", func() bool { return two.Len() == 8 })
	other, _ := two.Record("a")
	if other.Revision != rec.Revision || other.Labels["site"] != "2" {
		t.Fatalf("revision %d here, %d there", rec.Revision, other.Revision)
	}
	// A record written in a batch can be changed like any other.
	if _, err := two.Update(ctx, "f:g", 0, setLabel("room", "b2")); err != nil {
		t.Fatal(err)
	}
	// Node one may not have heard of that: the import goes on top of it, and loses nothing.
	keep := func(id string) devices.Import {
		return devices.Import{ID: id, Apply: func(r *devices.Record, _ bool) error { r.Notes = "seen"; return nil }}
	}
	got = im.Import(ctx, []devices.Import{keep("a"), keep("b"), keep("e"), keep("f:g"), keep("h"), keep("i")})
	if outcomes(got) != "cccccc" {
		t.Fatalf("%s %v", outcomes(got), got)
	}
	if rec, err := one.Refresh(ctx, "f:g"); err != nil || rec.Notes != "seen" || rec.Labels["room"] != "b2" {
		t.Fatalf("%+v, %v", rec, err)
	}
	before, _ := one.Record("a")
	got = im.Import(ctx, []devices.Import{keep("a"), keep("b"), keep("e")})
	after, _ := one.Record("a")
	if outcomes(got) != "sss" || before.Revision != after.Revision {
		t.Fatalf("again: %s", outcomes(got))
	}
}

// A record keeps the time that its import tells, since its tokens are as old; none is made in the future.
func TestImportedCreated(t *testing.T) {
	b := openBus(t, t.TempDir())
	t.Cleanup(func() { b.Close() })
	records := openRecords(t, b)
	at := func(id string, created time.Time) devices.Import {
		return devices.Import{ID: id, Apply: func(r *devices.Record, _ bool) error { r.Created = created; return nil }}
	}
	old, from := time.UnixMilli(1763832000123).UTC(), time.Now().Truncate(time.Millisecond)
	all := []devices.Import{at("old", old), at("none", time.Time{}), at("ahead", time.Now().Add(time.Hour))}
	if got := devices.NewImporter(records, b.JetStream()).Import(t.Context(), all); outcomes(got) != "mmm" {
		t.Fatal(outcomes(got))
	}
	if rec, _ := records.Record("old"); !rec.Created.Equal(old) {
		t.Errorf("old: made at %s, want %s", rec.Created, old)
	}
	for _, id := range []string{"none", "ahead"} {
		if rec, _ := records.Record(id); rec.Created.Before(from) || rec.Created.After(time.Now()) {
			t.Errorf("%s: made at %s, want now", id, rec.Created)
		}
	}
}

// A token may be dated ahead, to when the record was made by a faster clock: a revocation reaches it, and never goes back.
func TestRevocationReachesTokensDatedAhead(t *testing.T) {
	b := openBus(t, t.TempDir())
	t.Cleanup(func() { b.Close() })
	records := openRecords(t, b)
	rec, err := records.Create(t.Context(), &devices.Record{ID: "pump-7"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		dated := rec.TokensFrom()
		if rec, err = records.Revoke(t.Context(), "pump-7", rec.Created.Add(-time.Second)); err != nil {
			t.Fatal(err)
		}
		if !dated.Before(rec.TokensNotBefore) {
			t.Fatalf("a token of %s is good still: revoked are those before %s", dated, rec.TokensNotBefore)
		}
	}
	now := rec.Created.Add(time.Hour)
	if rec, err = records.Revoke(t.Context(), "pump-7", now); err != nil || !rec.TokensNotBefore.Equal(now) {
		t.Fatal(rec, err)
	}
}

// A batch of which one record was changed elsewhere is not lost.
func TestImportMeetsOthers(t *testing.T) {
	b := openBus(t, t.TempDir())
	t.Cleanup(func() { b.Close() })
	one, two := openRecords(t, b), openRecords(t, b)
	im := devices.NewImporter(one, b.JetStream())
	var all []devices.Import
	for i := range 20 {
		all = append(all, labelled(fmt.Sprintf("d-%02d", i), "site", "1"))
	}
	// Another node makes one of them between the plan and the write.
	raced := false
	all[7].Apply = func(r *devices.Record, _ bool) error {
		if !raced {
			raced = true
			if _, err := two.Create(context.Background(), &devices.Record{ID: "d-07", Notes: "theirs"}); err != nil {
				return err
			}
		}
		r.Labels = map[string]string{"site": "1"}
		return nil
	}
	got := im.Import(t.Context(), all)
	if s := outcomes(got); s[:7] != "mmmmmmm" || s[7] == 'e' || s[8:] != "mmmmmmmmmmmm" {
		t.Fatalf("%s %v", s, got[7])
	}
	rec, err := one.Refresh(t.Context(), "d-07")
	if err != nil || rec.Notes != "theirs" || rec.Labels["site"] != "1" {
		t.Fatalf("%+v, %v", rec, err)
	}
}

// fleetOf makes imports of n devices, each with a key and three labels.
func fleetOf(b testing.TB, n int) []devices.Import {
	b.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		b.Fatal(err)
	}
	key, err := devices.NewKey("k1", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	if err != nil {
		b.Fatal(err)
	}
	all := make([]devices.Import, n)
	for i := range all {
		all[i] = devices.Import{ID: fmt.Sprintf("device-%06d", i), Apply: func(r *devices.Record, _ bool) error {
			r.Labels = map[string]string{"site": fmt.Sprintf("plant-%d", i%50), "line": fmt.Sprint(i % 7), "name": fmt.Sprintf("Pump no %d", i)}
			r.Keys = []devices.Key{key}
			return nil
		}}
	}
	return all
}

// BenchmarkFleet100k imports 100,000 devices into a log that syncs every batch, imports them again, and lists and filters
// them.
func BenchmarkFleet100k(b *testing.B) {
	const size = 100_000
	bus := openBus(b, b.TempDir())
	b.Cleanup(func() { bus.Close() })
	records := openRecords(b, bus)
	im := devices.NewImporter(records, bus.JetStream())
	all := fleetOf(b, size)
	importAll := func(b *testing.B, want string) {
		for i := 0; i < size; i += 500 {
			for _, o := range outcomes(im.Import(b.Context(), all[i:i+500])) {
				if string(o) != want {
					b.Fatalf("%c, want %s", o, want)
				}
			}
		}
	}
	b.Run("import", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			want := "m"
			if records.Len() > 0 {
				want = "s"
			}
			importAll(b, want)
		}
		b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "devices/s")
	})
	if records.Len() != size {
		b.Fatalf("%d records", records.Len())
	}
	b.Run("import-again", func(b *testing.B) {
		for b.Loop() {
			importAll(b, "s")
		}
		b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "devices/s")
	})
	for name, q := range map[string]devices.Query{
		"first-page":  {Limit: 1000},
		"selector":    {Limit: 1000, Selector: parsed(b, "site=plant-49,line!=3")},
		"search-none": {Limit: 1000, Search: "no such device"},
		"search":      {Limit: 1000, Search: "pump no 9999"},
	} {
		b.Run("list/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := records.List(q, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("list/status", func(b *testing.B) {
		for b.Loop() {
			if _, err := records.List(devices.Query{Limit: 1000, Status: devices.Online}, func(string) devices.Status { return devices.Never }); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func parsed(b testing.TB, text string) selector.Selector {
	b.Helper()
	s, err := selector.Parse(text)
	if err != nil {
		b.Fatal(err)
	}
	return s
}
