package auth_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
)

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func jsonB64(v any) string { return b64(jsonOf(v)) }

func newEd() (ed25519.PublicKey, ed25519.PrivateKey, error) { return ed25519.GenerateKey(rand.Reader) }

func edX(k ed25519.PrivateKey) string {
	return base64.RawURLEncoding.EncodeToString(k.Public().(ed25519.PublicKey))
}

// hubKID is the name of the hub's one key.
func (b *bench) hubKID() string {
	names, err := filepath.Glob(filepath.Join(b.dir, "*.pem"))
	if err != nil || len(names) != 1 {
		b.t.Fatalf("%v, %v", names, err)
	}
	return strings.TrimSuffix(filepath.Base(names[0]), ".pem")
}

func manyMembers(n int) string {
	var s strings.Builder
	for i := range n {
		fmt.Fprintf(&s, `,"m%d":1`, i)
	}
	return s.String()
}

// nextInAlphabet changes the last bits of a base64url character, which a lenient decoder throws away.
func nextInAlphabet(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)|1]
}
