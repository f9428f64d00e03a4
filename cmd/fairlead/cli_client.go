package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/internal/problem"
)

// The exit codes of the client commands.
const (
	exitFailed      = 1 // the command failed or was rejected, or anything else went wrong
	exitUsage       = 2
	exitTimedOut    = 3 // the command expired or timed out
	exitOffline     = 4 // the device is off line
	exitNotAllowed  = 5
	exitUnreachable = 6 // the hub cannot be reached
)

// exitError is an error that decides the exit code of the process.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }

func (e *exitError) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// exactArgs, atLeast and atMost count a command's words; another number, or an empty word, is a usage error: an unset variable of
// a script would otherwise name the list instead of one of its members.
func exactArgs(n int) cobra.PositionalArgs {
	return asUsage(cobra.MatchAll(cobra.ExactArgs(n), noneEmpty))
}

func atLeast(n int) cobra.PositionalArgs {
	return asUsage(cobra.MatchAll(cobra.MinimumNArgs(n), noneEmpty))
}

func atMost(n int) cobra.PositionalArgs {
	return asUsage(cobra.MatchAll(cobra.MaximumNArgs(n), noneEmpty))
}

func noneEmpty(_ *cobra.Command, args []string) error {
	for i, arg := range args {
		if strings.TrimSpace(arg) == "" {
			return fmt.Errorf("argument %d is empty", i+1)
		}
	}
	return nil
}

func asUsage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usage("%w\nusage: %s", err, cmd.UseLine())
		}
		return nil
	}
}

const (
	defaultHubURL = "https://127.0.0.1:8443"
	// maxAnswer bounds what the client reads of one answer.
	maxAnswer = 256 << 20
	// callTimeout is how long one call may take beside the time it waits for a command.
	callTimeout = 60 * time.Second
)

// clientFlags say which hub to talk to, as whom, and how to print.
type clientFlags struct {
	url, token, ca, ready, output string
}

// clientConfig is ~/.config/fairlead/config.yaml.
type clientConfig struct {
	URL   string `yaml:"url"`
	Token string `yaml:"token"`
	CA    string `yaml:"ca"`
}

// addClientFlags gives a command and those below it the flags of a client.
func addClientFlags(cmd *cobra.Command) *clientFlags {
	f := &clientFlags{}
	p := cmd.PersistentFlags()
	p.StringVar(&f.url, "url", "", "address of the hub (FAIRLEAD_URL; default "+defaultHubURL+")")
	p.StringVar(&f.token, "token", "", "operator token (better: FAIRLEAD_TOKEN, which other users of the machine do not see)")
	p.StringVar(&f.ca, "ca", "", "file with the CA of the hub's certificate (FAIRLEAD_CA)")
	p.StringVar(&f.ready, "ready-file", os.Getenv(readyVariable), "take address, CA and token from the file that serve or demo wrote (also "+readyVariable+")")
	p.StringVarP(&f.output, "output", "o", "table", "table or json")
	cmd.SilenceUsage = true
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{exitUsage, err} })
	return f
}

// client calls one hub's operator API.
type client struct {
	base  *url.URL
	token string
	tls   *tls.Config
	http  *http.Client
	json  bool
}

// client resolves the flags: what a flag does not say the ready file says, then the environment, then the config file.
func (f *clientFlags) client() (*client, error) {
	if f.output != "table" && f.output != "json" {
		return nil, usage("-o %s: want table or json", f.output)
	}
	s, err := f.settings()
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(s.URL)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, usage("hub address %q: want https://host:port", s.URL)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CA != "" {
		pem, err := os.ReadFile(s.CA)
		if err != nil {
			return nil, usage("read CA: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usage("CA %s holds no certificate", s.CA)
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = config
	return &client{base: base, token: s.Token, tls: config, http: &http.Client{Transport: transport}, json: f.output == "json"}, nil
}

func (f *clientFlags) settings() (clientConfig, error) {
	s := clientConfig{URL: f.url, Token: f.token, CA: f.ca}
	if f.ready != "" {
		ready, err := readReadyFile(f.ready)
		if err != nil {
			return s, &exitError{exitUnreachable, err}
		}
		s.fill(ready)
	}
	s.fill(clientConfig{URL: os.Getenv("FAIRLEAD_URL"), Token: os.Getenv("FAIRLEAD_TOKEN"), CA: os.Getenv("FAIRLEAD_CA")})
	file, err := readClientConfig()
	if err != nil {
		return s, usage("%w", err)
	}
	s.fill(file)
	s.fill(clientConfig{URL: defaultHubURL})
	return s, nil
}

func (c *clientConfig) fill(from clientConfig) {
	for _, p := range []struct{ to, from *string }{{&c.URL, &from.URL}, {&c.Token, &from.Token}, {&c.CA, &from.CA}} {
		if *p.to == "" {
			*p.to = *p.from
		}
	}
}

func readReadyFile(name string) (clientConfig, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return clientConfig{}, fmt.Errorf("ready file: %w; is the hub running?", err)
	}
	var ready struct {
		URL   string `json:"url"`
		CA    string `json:"ca_file"`
		Token string `json:"admin_token"`
	}
	if err := json.Unmarshal(data, &ready); err != nil {
		return clientConfig{}, fmt.Errorf("ready file %s: %w", name, err)
	}
	return clientConfig{ready.URL, ready.Token, ready.CA}, nil
}

func readClientConfig() (clientConfig, error) {
	var c clientConfig
	dir, err := os.UserConfigDir()
	if err != nil {
		return c, nil // no home, no file
	}
	name := filepath.Join(dir, "fairlead", "config.yaml")
	data, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if err := yaml.UnmarshalWithOptions(data, &c, yaml.Strict()); err != nil {
		return c, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// request is one call.
type request struct {
	method, path string
	query        url.Values
	header       http.Header
	body         any
	raw          []byte // instead of body; header says what it is
	wait         time.Duration
}

// do makes a call and decodes the answer into v, which may be nil. It returns the answer's status and raw body.
func (c *client) do(ctx context.Context, q request, v any) (status int, raw []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout+q.wait)
	defer cancel()
	req, err := c.newRequest(ctx, q)
	if err != nil {
		return 0, nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, c.unreachable(err)
	}
	defer resp.Body.Close()
	raw, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, nil, c.unreachable(err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return resp.StatusCode, raw, hubRefusal(resp.StatusCode, raw)
	}
	if v != nil {
		if err := json.Unmarshal(raw, v); err != nil {
			return resp.StatusCode, raw, fmt.Errorf("read answer of %s: %w", q.path, err)
		}
	}
	return resp.StatusCode, raw, nil
}

func (c *client) newRequest(ctx context.Context, q request) (*http.Request, error) {
	var body io.Reader
	if q.body != nil {
		data, err := json.Marshal(q.body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(data)
	} else if q.raw != nil {
		body = bytes.NewReader(q.raw)
	}
	u := c.base.JoinPath("api", "v1").String() + q.path
	if len(q.query) > 0 {
		u += "?" + q.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, q.method, u, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	for k, v := range q.header {
		req.Header[k] = v
	}
	if body != nil && q.raw == nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, nil
}

// get reads a resource.
func (c *client) get(ctx context.Context, path string, query url.Values, v any) ([]byte, error) {
	_, raw, err := c.do(ctx, request{method: http.MethodGet, path: path, query: query}, v)
	return raw, err
}

func (c *client) unreachable(err error) error {
	hint := ""
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &unknown):
		hint = "; name the hub's CA with --ca, FAIRLEAD_CA or --ready-file"
	}
	return &exitError{exitUnreachable, fmt.Errorf("hub %s: %w%s", c.base.Host, err, hint)}
}

// hubRefusal turns a problem document into an error whose exit code says of which kind it is.
func hubRefusal(status int, raw []byte) error {
	var doc problem.Document
	if err := json.Unmarshal(raw, &doc); err != nil || doc.Code == "" {
		doc = problem.Document{Status: status, Code: "http_" + fmt.Sprint(status), Detail: http.StatusText(status)}
	}
	text := doc.Detail
	if doc.Path != "" && !strings.Contains(text, doc.Path) {
		text = doc.Path + ": " + text
	}
	if hint := hintFor(doc.Code, doc.Hint); hint != "" {
		text += "\n" + hint
	}
	code := exitFailed
	switch {
	case doc.Code == "device_offline":
		code = exitOffline
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		code = exitNotAllowed
	case status == http.StatusBadRequest:
		code = exitUsage
	}
	return &exitError{code, fmt.Errorf("%s (%s)", text, doc.Code)}
}

// escape makes a name one segment of a path.
func escape(name string) string { return url.PathEscape(name) }
