package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/ingest"
	"github.com/fairlead-hub/fairlead/ingest/influx"
)

func newInfluxCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "influx", Short: "Check the store of telemetry, and move what is in it", Args: exactArgs(0)}
	cmd.AddCommand(newInfluxCheck(), newExportCommand(), newInfluxLoad())
	return cmd
}

// storeFlags say which store is meant: the one of a running hub's ready file, or of a configuration.
type storeFlags struct{ config, data, ready string }

func (f *storeFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVarP(&f.config, "config", "c", "", "configuration file of the hub")
	fs.StringVar(&f.data, "data", "", "data directory of the hub, over data_dir")
	fs.StringVar(&f.ready, "ready-file", os.Getenv(readyVariable), "take the store from the ready file of a running hub (also "+readyVariable+"); --config wins")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{exitUsage, err} })
}

// store is how to reach a store.
type store struct {
	configs.Influx
	dataDir  string // of the hub, "" if that is not known
	embedded bool
}

func (f *storeFlags) settings() (store, error) {
	if f.ready != "" && f.config == "" && f.data == "" {
		return f.fromReady()
	}
	cfg, err := configs.Load(f.config, os.Environ())
	if err != nil {
		return store{}, &exitError{exitUsage, err}
	}
	if f.data != "" {
		cfg.DataDir = f.data
	}
	if err := cfg.Validate(); err != nil {
		return store{}, &exitError{exitUsage, fmt.Errorf("configuration:\n%w", err)}
	}
	s := store{Influx: cfg.Influx, dataDir: cfg.DataDir, embedded: cfg.Influx.URL == ""}
	token := string(s.Token)
	if token == "" {
		file := s.TokenFile
		if s.embedded && file == "" {
			file = filepath.Join(cfg.DataDir, "influx-token")
		}
		if token, err = secretFrom("", file, "", ""); err != nil && !s.embedded {
			return store{}, err
		}
	}
	s.Token = configs.Secret(token)
	if s.embedded {
		s.URL = "http://" + s.EmbeddedListen
	}
	return s, nil
}

func (f *storeFlags) fromReady() (store, error) {
	raw, err := os.ReadFile(f.ready)
	if err != nil {
		return store{}, &exitError{exitUnreachable, fmt.Errorf("ready file: %w; is the hub running?", err)}
	}
	var r readyInfo
	if err := json.Unmarshal(raw, &r); err != nil {
		return store{}, fmt.Errorf("ready file %s: %w", f.ready, err)
	}
	s := store{Influx: configs.Default().Influx, dataDir: r.DataDir}
	s.URL, s.Token, s.Org, s.Bucket = r.InfluxURL, configs.Secret(r.InfluxToken), r.InfluxOrg, r.InfluxBucket
	_, err = os.Stat(filepath.Join(r.DataDir, embeddedDir))
	s.embedded = err == nil
	return s, nil
}

func newInfluxCheck() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use: "check", Short: "Find out what serves influx.url, and whether the hub can write there and read back",
		Long: "The check makes the bucket if it may, and writes one point of the measurement fairlead_check.",
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := f.settings()
			if err != nil {
				return err
			}
			client := influx.New(s.Influx)
			defer client.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), callTimeout)
			defer cancel()
			return printCheck(cmd.OutOrStdout(), s, client, client.Check(ctx, s.Retention))
		},
	}
	f.add(cmd)
	return cmd
}

// printCheck tells what was found, each fault with what to do about it.
func printCheck(w io.Writer, s store, client *influx.Store, c influx.Checked) error {
	line := func(name, value string) { fmt.Fprintf(w, "%-9s %s\n", name, value) }
	result := func(name, well string, err error) {
		if err == nil {
			line(name, well)
			return
		}
		line(name, "FAILED: "+err.Error())
		if hint := client.Hint(err); hint != "" {
			line("", hint)
		}
	}
	line("url", s.URL)
	if c.Reach != nil {
		result("reach", "", c.Reach)
		return &exitError{exitUnreachable, errors.New("the store cannot be used")}
	}
	line("found", c.Found.Name()+" ("+c.Found.Flavor+")")
	line("bucket", s.Bucket)
	if c.Found.Note != "" {
		line("", c.Found.Note)
	}
	if c.Make != nil {
		result("make", "", c.Make)
	}
	result("write", "ok", c.Write)
	switch {
	case c.Write != nil:
	case errors.Is(c.Query, influx.ErrNoHistory):
		line("history", c.Found.History()+"; ask the store itself, by MetricsQL")
	default:
		result("history", "ok, "+c.Found.History(), c.Query)
	}
	if !c.OK() {
		return &exitError{exitFailed, errors.New("the store cannot be used")}
	}
	return nil
}

// The bounds of one write of load.
const (
	loadLines = 10_000
	loadBytes = 4 << 20
)

func newInfluxLoad() *cobra.Command {
	var f storeFlags
	var patience time.Duration
	cmd := &cobra.Command{
		Use: "load [FILE]", Short: "Write line protocol (times in nanoseconds) from FILE, or what is piped in, straight to the store",
		Long: "For moving history from one store to another: fairlead influx export | fairlead influx load --config new.yaml\n" +
			"The points do not go through the hub: nothing is checked but by the store. For the telemetry of devices use fairlead import.",
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.settings()
			if err != nil {
				return err
			}
			in := cmd.InOrStdin()
			if len(args) == 1 && args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return usage("%w", err)
				}
				defer file.Close()
				in = file
			}
			client := influx.New(s.Influx)
			defer client.Close()
			if _, err := client.Prepare(cmd.Context(), s.Retention); err != nil {
				return &exitError{exitUnreachable, fmt.Errorf("%w\n%s", err, client.Hint(err))}
			}
			n, err := pour(cmd.Context(), client, in, patience)
			fmt.Fprintf(cmd.ErrOrStderr(), "%d lines written to %s, bucket %s\n", n, s.URL, s.Bucket)
			if err != nil {
				return fmt.Errorf("after line %d: %w\n%s", n, err, client.Hint(err))
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().DurationVar(&patience, "retry-for", time.Minute, "how long to try again while the store does not answer")
	return cmd
}

// pour writes lines until in ends, and returns how many are written: all before the first that is not.
func pour(ctx context.Context, to ingest.Store, in io.Reader, patience time.Duration) (written int64, err error) {
	lines := bufio.NewScanner(unmarked(in))
	lines.Buffer(nil, loadBytes)
	var batch []byte
	pending := int64(0)
	flush := func() error {
		if pending == 0 {
			return nil
		}
		if err := writePatiently(ctx, to, batch, patience); err != nil {
			return err
		}
		written += pending
		batch, pending = batch[:0], 0
		return nil
	}
	for lines.Scan() {
		batch = append(append(batch, lines.Bytes()...), '\n')
		if pending++; pending >= loadLines || len(batch) >= loadBytes {
			if err := flush(); err != nil {
				return written, err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return written, errors.Join(flush(), fmt.Errorf("read lines: %w", err))
	}
	return written, flush()
}

func writePatiently(ctx context.Context, to ingest.Store, batch []byte, patience time.Duration) error {
	const first, most = 200 * time.Millisecond, 10 * time.Second
	deadline := time.Now().Add(patience)
	for wait := first; ; wait = min(2*wait, most) {
		err := to.Write(ctx, batch)
		var e *ingest.StoreError
		if err == nil || !errors.As(err, &e) || e.Verdict != ingest.Unavailable || time.Now().After(deadline) {
			return err
		}
		if !sleep(ctx, max(wait, e.RetryAfter)) {
			return ctx.Err()
		}
	}
}

// sleep waits, and reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// plural names a number of things.
func plural(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
