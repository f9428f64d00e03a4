package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/ingest/embedded"
)

// embeddedDir is where the data directory keeps the embedded store.
const embeddedDir = "influx"

// exportFlags say what to export from where.
type exportFlags struct {
	storeFlags
	device, from, to, bucket string
}

// newExportCommand makes `fairlead export`, which is also `fairlead influx export`.
func newExportCommand() *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use: "export", Short: "Print the embedded store's telemetry as line protocol, times in nanoseconds",
		Long: "A running hub is asked; otherwise its data directory is read. To move to an InfluxDB of your own:\n" +
			"  fairlead influx export | fairlead influx load --config new.yaml",
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := f.span(time.Now())
			if err != nil {
				return err
			}
			s, err := f.settings()
			if err != nil {
				return err
			}
			out := &lineCounter{w: cmd.OutOrStdout()}
			err = export(cmd.Context(), s, r, out)
			fmt.Fprintln(cmd.ErrOrStderr(), plural(out.lines, "line"), "exported")
			return err
		},
	}
	f.storeFlags.add(cmd)
	fs := cmd.Flags()
	fs.StringVar(&f.device, "device", "", "only this device")
	fs.StringVar(&f.from, "from", "", "from this time on: -1h, -7d, RFC 3339 or Unix milliseconds; default is the oldest")
	fs.StringVar(&f.to, "to", "", "before this time")
	fs.StringVar(&f.bucket, "bucket", "", "database, or database/policy; default influx.bucket")
	return cmd
}

func (f *exportFlags) span(now time.Time) (r embedded.Range, err error) {
	r.Device, r.Bucket = f.device, f.bucket
	if f.device != "" {
		if err := wire.CheckID(f.device); err != nil {
			return r, usage("--device: %w", err)
		}
	}
	for _, t := range []struct {
		flag, text string
		to         *time.Time
	}{{"--from", f.from, &r.From}, {"--to", f.to, &r.To}} {
		if t.text == "" {
			continue
		}
		if *t.to, err = whenever(t.flag, t.text, now); err != nil {
			return r, err
		}
	}
	return r, nil
}

// export asks the hub that holds the data directory, or reads the directory if none does.
func export(ctx context.Context, s store, r embedded.Range, out io.Writer) error {
	if !s.embedded {
		return usage("the store at %s is not the hub's own; it exports by its own tools, as influx_inspect export or influx query", s.URL)
	}
	if r.Bucket == "" {
		r.Bucket = s.Bucket
	}
	dir := filepath.Join(s.dataDir, embeddedDir)
	if _, err := os.Stat(dir); err != nil {
		return usage("no embedded store: %w; name the data directory with --data", err)
	}
	unlock, err := lockDir(s.dataDir)
	if err != nil {
		return exportOnline(ctx, s, r, out)
	}
	defer unlock()
	opened, err := embedded.New(embedded.Options{Dir: dir, Bucket: s.Bucket, Retention: s.Retention, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if err := opened.Open(); err != nil {
		return err
	}
	_, err = opened.Export(ctx, out, r)
	return errors.Join(err, opened.Close())
}

func exportOnline(ctx context.Context, s store, r embedded.Range, out io.Writer) error {
	q := url.Values{"bucket": {r.Bucket}}
	if r.Device != "" {
		q.Set("device", r.Device)
	}
	for key, t := range map[string]time.Time{"from": r.From, "to": r.To} {
		if !t.IsZero() {
			q.Set(key, t.Format(time.RFC3339Nano))
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/export?"+q.Encode(), nil)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	req.Header.Set("Authorization", "Token "+string(s.Token))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return &exitError{exitUnreachable, fmt.Errorf("export: %w", err)}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 1024)) // the status says enough where the body does not
		return fmt.Errorf("export: %s: %s", resp.Status, bytes.TrimSpace(said))
	}
	if _, err := io.Copy(out, resp.Body); err != nil {
		return fmt.Errorf("export broken off, what was printed is not all: %w", err)
	}
	return nil
}

// lineCounter counts the lines that go through it.
type lineCounter struct {
	w     io.Writer
	lines int64
}

// Write passes p on.
func (c *lineCounter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.lines += int64(bytes.Count(p[:n], []byte("\n")))
	return n, err
}
