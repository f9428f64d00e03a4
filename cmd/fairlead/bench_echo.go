package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/internal/load"
)

// echoSpec is the bare server that a benchmark holds the hub against.
type echoSpec struct {
	ReadBuffer int    `json:"read_buffer"`
	Welcome    bool   `json:"welcome"`
	TLSDir     string `json:"tls_dir"` // empty: plain
	Devices    int    `json:"devices"` // whose own tokens it checks; 0: it checks nothing
}

// echoAnswer says where the bare server is.
type echoAnswer struct {
	URL    string   `json:"url"`
	Admin  string   `json:"admin"`
	PID    int      `json:"pid"`
	Tokens []string `json:"tokens"`
}

func runEchoPart(ctx context.Context, in *json.Decoder, out *json.Encoder) error {
	var spec echoSpec
	if err := readSpec(ctx, in, &spec, settling(out)); err != nil {
		return err
	}
	o := load.EchoOptions{ReadBuffer: spec.ReadBuffer, Welcome: spec.Welcome}
	tokens, keys, err := ownTokens(spec.Devices)
	if err != nil {
		return err
	}
	if spec.Devices > 0 {
		o.Verify = bareCheck(keys)
	}
	front, err := listen("listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	answer := echoAnswer{URL: "ws://" + front.Addr().String() + "/v1/device", PID: os.Getpid(), Tokens: tokens}
	if spec.TLSDir != "" {
		enc, err := serverTLS(configs.Default().TLS, spec.TLSDir, slog.New(slog.DiscardHandler))
		if err != nil {
			return errors.Join(err, front.Close())
		}
		front = tls.NewListener(front, enc.conf)
		answer.URL = "wss://" + front.Addr().String() + "/v1/device"
	}
	back, err := listen("admin", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, front.Close())
	}
	answer.Admin = "http://" + back.Addr().String()
	if err := out.Encode(answer); err != nil {
		return err
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serveBare(ctx, front, load.NewEcho(o)) })
	g.Go(func() error { return serveBare(ctx, back, adminHandler(reg, nil)) })
	return g.Wait()
}

func serveBare(ctx context.Context, ln net.Listener, handler http.Handler) error {
	srv := &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, ErrorLog: slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("bare server: %w", err)
	}
	return nil
}

// ownTokens makes devices with keys of their own, and a token of each.
func ownTokens(n int) (tokens []string, keys map[string]*ecdsa.PublicKey, err error) {
	keys = make(map[string]*ecdsa.PublicKey, n)
	for i := range n {
		own, err := newOwnKey()
		if err != nil {
			return nil, nil, err
		}
		id := deviceName("", i)
		token, err := own.sign(id, configs.Default().Auth.Audience)
		if err != nil {
			return nil, nil, err
		}
		tokens, keys[id] = append(tokens, token), &own.private.PublicKey
	}
	return tokens, keys, nil
}

// bareCheck is the check that anybody would write with golang-jwt: the same signature, audience and expiry as the hub's.
func bareCheck(keys map[string]*ecdsa.PublicKey) func(string) error {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience(configs.Default().Auth.Audience),
		jwt.WithExpirationRequired())
	return func(raw string) error {
		_, err := parser.ParseWithClaims(raw, &jwt.RegisteredClaims{}, func(t *jwt.Token) (any, error) {
			sub, err := t.Claims.GetSubject()
			if err != nil {
				return nil, err
			}
			if key, ok := keys[sub]; ok {
				return key, nil
			}
			return nil, errors.New("no such device")
		})
		return err
	}
}
