package auth_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices/auth"
)

// Two nodes share the directory. A key that one makes is good at the other for the first token that names it; one that is
// removed is good nowhere, and those who hold sessions hear of it.
func TestHubKeysOfTwoNodes(t *testing.T) {
	b := newBench(t)
	other, err := auth.OpenHubKeys(b.dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	far, err := auth.NewVerifier(auth.VerifierOptions{Config: b.cfg, Hub: other, Accounts: b.accounts, Now: func() time.Time { return b.now }})
	if err != nil {
		t.Fatal(err)
	}
	old, _, err := b.minter.Mint("pump-8", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	gone := 0
	far.OnKeysGone(func() { gone++ })
	first := b.hub.List()[0]
	if !first.Mints || first.Alg != auth.EdDSA {
		t.Fatalf("%+v", first)
	}
	kid, err := b.hub.Add(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	fresh, _, err := b.minter.Mint("pump-8", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{fresh, old} {
		if _, err := far.Verify(token); err != nil {
			t.Fatalf("at the other node: %v", err)
		}
	}
	list := b.hub.List()
	if len(list) != 2 || list[0].KID != kid || !list[0].Mints || list[1].Mints {
		t.Fatalf("%+v", list)
	}
	if err := b.hub.Remove(kid); !errors.Is(err, auth.ErrMints) {
		t.Fatalf("the key that mints: %v", err)
	}
	if err := b.hub.Remove("../" + kid); !errors.Is(err, auth.ErrNoKey) {
		t.Fatalf("no key: %v", err)
	}
	held, err := far.Verify(old)
	if err != nil || gone != 0 {
		t.Fatalf("%v, %d", err, gone)
	}
	if err := b.hub.Remove(first.KID); err != nil {
		t.Fatal(err)
	}
	b.want(old, auth.UnknownKey)
	b.want(fresh, "")
	if err := other.Reload(); err != nil { // as Run does
		t.Fatal(err)
	}
	if gone != 1 {
		t.Fatalf("told %d times that a key is gone", gone)
	}
	var rej *auth.Refusal
	if err := far.Still(held); !errors.As(err, &rej) || rej.Status() != 401 {
		t.Fatalf("a live session's token: %v", err)
	}
	if _, err := far.Verify(old); codeOf(err) != auth.UnknownKey {
		t.Fatal(err)
	}
}

// A key is removed whatever else lies in the directory, and those who hold sessions hear of it.
func TestHubKeyIsRemovedBesideAnUnreadableOne(t *testing.T) {
	b := newBench(t)
	token, _, err := b.minter.Mint("pump-8", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	old := b.hubKID()
	if _, err := b.hub.Add(time.Now()); err != nil {
		t.Fatal(err)
	}
	fresh, _, err := b.minter.Mint("pump-8", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	gone := 0
	b.verifier.OnKeysGone(func() { gone++ })
	b.want(token, "")
	if err := os.WriteFile(filepath.Join(b.dir, "broken.pem"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.hub.Remove(old); err != nil || gone != 1 {
		t.Fatalf("%v, told %d times", err, gone)
	}
	b.want(token, auth.UnknownKey)
	b.want(fresh, "")
}
