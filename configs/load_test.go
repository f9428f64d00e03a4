package configs_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
)

func load(t *testing.T, yaml string, env ...string) (configs.Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fairlead.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return configs.Load(file, env)
}

// The sample documents the defaults, so it must be them.
func TestSampleIsTheDefault(t *testing.T) {
	got, err := load(t, string(configs.Sample))
	if err != nil {
		t.Fatal(err)
	}
	a, _ := configs.Print(got)
	b, _ := configs.Print(configs.Default())
	if string(a) != string(b) {
		t.Errorf("sample:\n%s\ndefault:\n%s", a, b)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

// Every key of Config stands in the sample.
func TestSampleNamesEveryKey(t *testing.T) {
	sample := string(configs.Sample)
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			key := f.Tag.Get("yaml")
			if key == "" || !strings.Contains(sample, key) {
				t.Errorf("key %q of %s is not in the sample", key, typ)
			}
			if f.Type.Kind() == reflect.Struct {
				walk(f.Type)
			}
		}
	}
	walk(reflect.TypeFor[configs.Config]())
}

func TestEnvironmentWins(t *testing.T) {
	c, err := load(t, "listen: 127.0.0.1:1\ningest: {tags: [a]}", "FAIRLEAD_LISTEN=127.0.0.1:2", "FAIRLEAD_INGEST_TAGS=[site, line]",
		"FAIRLEAD_DEVICES_HEARTBEAT=10s", "FAIRLEAD_INFLUX_TOKEN=s3cret", "FAIRLEAD_NATS_CLUSTER_NAME=x", "FAIRLEAD_TOKEN=not-ours", "HOME=/x")
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:2" || strings.Join(c.Ingest.Tags, " ") != "site line" || c.Devices.Heartbeat != 10*time.Second || c.NATS.Cluster.Name != "x" {
		t.Errorf("%+v", c)
	}
	out, err := configs.Print(c)
	if err != nil || strings.Contains(string(out), "s3cret") || !strings.Contains(string(out), "[redacted]") {
		t.Errorf("printed a secret, or none: %v", err)
	}
}

func TestBadKeysAreNamed(t *testing.T) {
	for name, c := range map[string]struct{ yaml, env, want string }{
		"unknown key":      {"influx: {ulr: x}", "", "ulr"},
		"unknown section":  {"infux: {}", "", "infux"},
		"wrong type":       {"devices: {frame_bytes: many}", "", "frame_bytes"},
		"bare number":      {"devices: {heartbeat: 30}", "", "devices.heartbeat: \"30\" is not a duration; write 30s, 5m or 24h"},
		"line":             {"listen: x\nlisen: y\n", "", "[2:1] unknown field \"lisen\"\n  2 | lisen: y"},
		"unknown variable": {"", "FAIRLEAD_INFLX_URL=x", "FAIRLEAD_INFLX_URL"},
		"bad variable":     {"", "FAIRLEAD_DEVICES_FRAME_BYTES=many", "FAIRLEAD_DEVICES_FRAME_BYTES: \"many\" is not a whole number"},
		"bad duration":     {"", "FAIRLEAD_DEVICES_HEARTBEAT=30", "FAIRLEAD_DEVICES_HEARTBEAT: \"30\" is not a duration"},
		"bad level":        {"", "FAIRLEAD_LOG_LEVEL=loud", "FAIRLEAD_LOG_LEVEL: \"loud\" is not a level: debug, info, warn or error"},
		"bad switch":       {"", "FAIRLEAD_INGEST_SYNC=perhaps", "FAIRLEAD_INGEST_SYNC: \"perhaps\" is not true or false"},
		"bad list":         {"", "FAIRLEAD_INGEST_TAGS={", "FAIRLEAD_INGEST_TAGS: "},
	} {
		if _, err := load(t, c.yaml, c.env); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

func TestErrorsHideSecrets(t *testing.T) {
	for name, c := range map[string]struct{ yaml, env string }{
		"line before":  {"influx:\n  token: s3cret\n  ulr: x", ""},
		"line itself":  {"influx: {token: s3cret, ulr: x}", ""},
		"bad variable": {"", "FAIRLEAD_BRIDGE_CONNECTIONS=[{name: a, password: s3cret, x: 1}]"},
	} {
		if _, err := load(t, c.yaml, c.env); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValidateReportsEveryFault(t *testing.T) {
	for key, yaml := range map[string]string{
		"listen":                         "listen: nowhere",
		"tls.mode":                       "{listen: \"0.0.0.0:8443\", tls: {mode: \"off\"}}",
		"tls.cert_file":                  "tls: {mode: files, key_file: /dev/null}",
		"tls.acme.hosts":                 "tls: {mode: acme}",
		"tls.acme.hosts[0]":              "tls: {mode: acme, acme: {hosts: [10.0.0.1]}}",
		"tls.acme.directory_url":         "tls: {mode: acme, acme: {hosts: [hub.example.com], directory_url: \"http://ca\"}}",
		"tls.client_ca_file":             "tls: {client_auth: optional}",
		"tls.client_auth":                "tls: {client_auth: please}",
		"devices.bind_certificate":       "devices: {bind_certificate: match}",
		"devices.certificate_names[0]":   "devices: {certificate_names: [serial]}",
		"auth.audience":                  "auth: {audience: \"\"}",
		"auth.skew":                      "auth: {skew: 1h}",
		"devices.frame_bytes":            "devices: {frame_bytes: 1}",
		"devices.points_per_second":      "devices: {points_per_second: -1}",
		"devices.flap_window":            "devices: {flap_window: 1ms}",
		"devices.trusted_proxies[0]":     "devices: {trusted_proxies: [10.0.0.1]}",
		"devices.expect[0].selector":     "devices: {expect: [{selector: \"=x\", every: 60s}]}",
		"devices.expect[0].every":        "devices: {expect: [{selector: kind=pump}]}",
		"ingest.batch_bytes":             "ingest: {batch_bytes: 10000000}",
		"ingest.integer_fields[0]":       "ingest: {integer_fields: [\"[\"]}",
		"influx.url":                     "influx: {url: \"ftp://x\"}",
		"influx.embedded_listen":         "influx: {embedded_listen: \"0.0.0.0:8086\"}",
		"influx.embedded_bytes":          "influx: {embedded_bytes: 10}",
		"nats.urls[0]":                   "nats: {urls: [\"localhost\"]}",
		"nats.replicas":                  "nats: {replicas: 2}",
		"commands.default_ttl":           "commands: {default_ttl: 9000h}",
		"auth.issuers[0].jwks_url":       "auth: {issuers: [{issuer: a, jwks_url: \"http://login.example.com/jwks\"}]}",
		"auth.issuers[1].issuer":         "auth: {issuers: [{issuer: a, jwks_url: \"https://a/j\"}, {issuer: a, jwks_url: \"https://a/j\"}]}",
		"auth.issuers[0].issuer":         "auth: {issuers: [{issuer: fairlead, jwks_url: \"https://a/j\"}]}",
		"auth.issuers[0].refresh":        "auth: {issuers: [{issuer: a, jwks_url: \"https://a/j\", refresh: 1s}]}",
		"auth.enrolls_per_minute":        "auth: {enrolls_per_minute: -1}",
		"bridge.connections[0].url":      "bridge: {connections: [{name: a, url: \"http://x\", timezone: UTC}]}",
		"bridge.connections[1].name":     "bridge: {connections: [{name: a, url: embedded}, {name: a, url: embedded}]}",
		"log.format":                     "log: {format: xml}",
		"bridge.connections[0].timezone": "bridge: {connections: [{name: a, url: embedded, timezone: Mars/Base}]}",
	} {
		c, err := load(t, yaml)
		if err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		var fault *configs.Fault
		err = c.Validate()
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), key+": ") {
			t.Errorf("%s: got %v", key, err)
		}
	}
	c, err := load(t, "listen: x\nlog: {format: y}")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("want two faults, got %v", err)
	}
}
