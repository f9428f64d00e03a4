package main_test

import (
	"strings"
	"testing"
)

// TestFaultsNameTheirPlace asks a whole hub for what only its parts can refuse: each refusal says what is wrong with which
// part of the request, in the words of who wrote it.
func TestFaultsNameTheirPlace(t *testing.T) {
	t.Parallel()
	h := serve(t, loopback)
	h.addDevice(t, "pump-7", "plant-1")
	jwk := map[string]string{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
	type object = map[string]any
	for name, c := range map[string]struct {
		method, path string
		body         any
		status       int
		code, where  string
	}{
		"label is empty":     {"POST", "/devices", object{"id": "a", "labels": object{"site": ""}}, 400, "invalid_label", "labels.site"},
		"label is null":      {"POST", "/devices", object{"id": "a", "labels": object{"site": nil}}, 400, "invalid_label", "labels.site"},
		"label's name":       {"PATCH", "/devices/pump-7", object{"labels": object{"(x)": "y"}}, 400, "invalid_label", "labels.(x)"},
		"expected never":     {"PATCH", "/devices/pump-7", object{"expect_every": "1000d"}, 400, "invalid_duration", "expect_every"},
		"no key":             {"POST", "/devices", object{"id": "a", "keys": []any{object{"kid": "j", "jwk": jwk}, object{"kid": "k", "public_key": "x"}}}, 400, "invalid_key", "keys[1].public_key"},
		"no JWK":             {"POST", "/devices/pump-7/keys", object{"kid": "k", "jwk": object{}}, 400, "invalid_key", "jwk"},
		"two of one kid":     {"POST", "/devices", object{"id": "a", "keys": []any{object{"kid": "k", "jwk": jwk}, object{"kid": "k", "jwk": jwk}}}, 400, "invalid_key", "keys"},
		"enrollment of none": {"POST", "/enrollments", object{"max_devices": 0}, 400, "invalid_request", "max_devices"},
		"enrollment's time":  {"POST", "/enrollments", object{"max_devices": 1, "ttl": "1s"}, 400, "invalid_request", "ttl"},
		"command's time":     {"POST", "/devices/pump-7/commands", object{"name": "x", "ttl": "31d"}, 400, "invalid_request", "ttl"},
		"cursor of commands": {"GET", "/commands?cursor=zzz", nil, 400, "invalid_cursor", "cursor"},
		"cursor of jobs":     {"GET", "/jobs?cursor=zzz", nil, 400, "invalid_cursor", "cursor"},
		"replay of null":     {"POST", "/deadletters/replay", object{"ids": []any{nil}}, 400, "invalid_request", "ids[0]"},
		"good":               {"POST", "/devices", object{"id": "good", "labels": object{"site": "x"}, "keys": []any{object{"kid": "k", "jwk": jwk}}}, 201, "", ""},
	} {
		var p problem
		status := h.ask(t, c.method, c.path, c.body, &p)
		if status != c.status || p.Code != c.code || p.Path != c.where {
			t.Errorf("%s: %d %s at %q (%s), want %d %s at %q", name, status, p.Code, p.Path, p.Detail, c.status, c.code, c.where)
		}
		for _, inner := range []string{"create device", "update device", "create enrollment", "invalid: ", "/ttl"} {
			if strings.Contains(p.Detail, inner) {
				t.Errorf("%s: %q speaks of the hub's insides", name, p.Detail)
			}
		}
	}
}
