package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/pprof"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/devices"
)

// hubSpec is the hub that a benchmark or a test wants.
type hubSpec struct {
	Dir         string `json:"dir"`
	Listen      string `json:"listen"`
	InfluxURL   string `json:"influx_url"` // empty: the embedded store
	InfluxToken string `json:"influx_token"`
	TLS         bool   `json:"tls"`
	Unsynced    bool   `json:"unsynced"` // the negative control
	Devices     int    `json:"devices"`  // to provision
	Prefix      string `json:"prefix"`
	OwnKeys     bool   `json:"own_keys"` // each device signs its own tokens, ES256
	Node        string `json:"node"`
	LogBytes    int64  `json:"log_bytes"`
	MinFree     int64  `json:"min_free"`
	Profile     string `json:"profile"` // where the processor profile goes, or empty

	NATS    []string `json:"nats"`     // servers of a bus that several hubs share; empty: embedded
	KeysDir string   `json:"keys_dir"` // of several hubs; empty: the hub's own
}

// hubAnswer is a hub that serves.
type hubAnswer struct {
	URL      string   `json:"url"` // for devices
	CA       string   `json:"ca"`
	Admin    string   `json:"admin"`
	PID      int      `json:"pid"`
	Tokens   []string `json:"tokens"`
	Influx   string   `json:"influx"`
	Token    string   `json:"token"`
	Bucket   string   `json:"bucket"`
	API      string   `json:"api"`
	Operator string   `json:"operator"`
}

// nowhere is the address of an InfluxDB that is not there: points wait in the log.
const nowhere = "http://127.0.0.1:1"

func (s hubSpec) config() configs.Config {
	cfg := configs.Default()
	cfg.DataDir, cfg.Listen, cfg.Admin.Listen = s.Dir, "127.0.0.1:0", "127.0.0.1:0"
	if s.Listen != "" {
		cfg.Listen = s.Listen
	}
	if !s.TLS {
		cfg.TLS.Mode = configs.TLSOff
	}
	cfg.Influx.URL, cfg.Influx.Token, cfg.Influx.EmbeddedListen = s.InfluxURL, configs.Secret(s.InfluxToken), "127.0.0.1:0"
	cfg.Ingest.Sync = !s.Unsynced
	if s.LogBytes > 0 {
		cfg.Ingest.LogBytes = s.LogBytes
	}
	if s.MinFree > 0 {
		cfg.Ingest.MinFreeBytes = s.MinFree
	}
	// A whole fleet at once is what is measured, not how it is put off.
	cfg.Devices.ConnectsPerSecond, cfg.Devices.MaxPending = 0, 20_000
	cfg.Bridge.Broker.Listen = ""
	cfg.Node, cfg.NATS.URLs, cfg.Auth.KeysDir = cmp.Or(s.Node, "bench"), s.NATS, s.KeysDir
	cfg.Log.Level = slog.LevelWarn
	return cfg
}

func runHubPart(ctx context.Context, in *json.Decoder, out *json.Encoder) error {
	var spec hubSpec
	if err := readSpec(ctx, in, &spec, settling(out)); err != nil {
		return err
	}
	cfg := spec.config()
	var profile *os.File
	err := serve(ctx, cfg, newLog(cfg.Log, os.Stderr), func(ctx context.Context, s served) error {
		tokens, err := s.hub.provision(ctx, spec.Prefix, spec.Devices, spec.OwnKeys)
		if err != nil {
			return err
		}
		operator, _, err := s.hub.api.MintToken(ctx, api.FirstAdmin, "", 0)
		if err != nil {
			return fmt.Errorf("operator token: %w", err)
		}
		if profile, err = startProfile(spec.Profile); err != nil {
			return err
		}
		return out.Encode(hubAnswer{
			URL: strings.Replace(s.url, "http", "ws", 1) + "/v1/device", API: s.url, Operator: operator, CA: s.ca, Admin: s.admin, PID: os.Getpid(), Tokens: tokens,
			Influx: s.hub.cfg.Influx.URL, Token: string(s.hub.cfg.Influx.Token), Bucket: s.hub.cfg.Influx.Bucket,
		})
	})
	if profile != nil {
		pprof.StopCPUProfile()
		err = errors.Join(err, profile.Close())
	}
	return err
}

func startProfile(name string) (*os.File, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("profile: %w", err), f.Close())
	}
	return f, nil
}

// provisionAt is how many records are written at once: the disk syncs each.
const provisionAt = 32

// provision makes devices that are not there yet, and a token for each.
func (h *hub) provision(ctx context.Context, prefix string, n int, ownKeys bool) ([]string, error) {
	tokens := make([]string, n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(provisionAt)
	for i := range tokens {
		g.Go(func() (err error) {
			tokens[i], err = h.provisionOne(ctx, deviceName(prefix, i), ownKeys)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("provision: %w", err)
	}
	return tokens, nil
}

func deviceName(prefix string, i int) string {
	return fmt.Sprintf("%s-%05d", cmp.Or(prefix, "bench"), i)
}

func (h *hub) provisionOne(ctx context.Context, id string, ownKey bool) (token string, err error) {
	rec := &devices.Record{ID: id}
	if ownKey {
		own, err := newOwnKey()
		if err != nil {
			return "", err
		}
		text, err := own.pem()
		if err != nil {
			return "", err
		}
		key, err := devices.NewKey("own", text)
		if err != nil {
			return "", err
		}
		rec.Keys = []devices.Key{key}
		if token, err = own.sign(id, h.cfg.Auth.Audience); err != nil {
			return "", err
		}
	}
	if _, err := h.records.Create(ctx, rec); err != nil && !errors.Is(err, devices.ErrExists) {
		return "", err
	}
	if !ownKey {
		token, _, err = h.minter.Mint(id, 0)
	}
	return token, err
}
