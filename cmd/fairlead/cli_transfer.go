package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/commands/api"
)

// The bounds of one call of an import. The hub takes some more.
const (
	importLines = 500
	importBytes = 200 << 10
)

func devicesExport(f *clientFlags) *cobra.Command {
	var selector, text, file string
	cmd := &cobra.Command{
		Use: "export", Short: "Write device records as JSON lines", Args: exactArgs(0),
		Long: "Write device records as JSON lines, sorted by id: labels, public keys, disabled, notes. No secrets are among them.",
	}
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "labels that must hold, as site=plant-7,line!=3")
	cmd.Flags().StringVarP(&text, "query", "q", "", "text in id, model or label")
	cmd.Flags().StringVarP(&file, "file", "f", "", "write there instead of to standard output")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		q := url.Values{}
		for name, value := range map[string]string{"selector": selector, "q": text} {
			if value != "" {
				q.Set(name, value)
			}
		}
		if file == "" {
			return c.export(cmd.Context(), q, cmd.OutOrStdout())
		}
		out, err := os.Create(file)
		if err != nil {
			return usage("%w", err)
		}
		return errors.Join(c.export(cmd.Context(), q, out), out.Close())
	}
	return cmd
}

// export copies the stream; an error says that it is not whole.
func (c *client) export(ctx context.Context, q url.Values, to io.Writer) error {
	req, err := c.newRequest(ctx, request{method: http.MethodGet, path: "/export/devices", query: q})
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return c.unreachable(err)
		}
		return hubRefusal(resp.StatusCode, raw)
	}
	if _, err := io.Copy(to, resp.Body); err != nil {
		return fmt.Errorf("the export is not whole: %w", err)
	}
	return nil
}

func devicesImport(f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "import FILE|-", Short: "Make and change devices from JSON lines", Args: exactArgs(1),
		Long: `Make and change devices from JSON lines as "fairlead devices export" writes them. What a line leaves out stays as it is; a
device that is as its line says is not touched, so that an import can be repeated. A line that is wrong does not stop
the others: each is told with its number, and the exit code is then 1.`,
		Example: "  fairlead devices export > devices.ndjson\n  fairlead devices import devices.ndjson\n" +
			`  echo '{"id":"pump-7","labels":{"site":"plant-7"}}' | fairlead devices import -`,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		in := cmd.InOrStdin()
		if args[0] != "-" {
			file, err := os.Open(args[0])
			if err != nil {
				return usage("%w", err)
			}
			defer file.Close()
			in = file
		}
		i := &deviceImport{c: c, told: cmd.ErrOrStderr()}
		err = i.run(cmd.Context(), in)
		if c.json {
			err = errors.Join(printJSON(cmd, i.sum), err)
		} else {
			fmt.Fprintf(cmd.ErrOrStderr(), "%d lines: %d created, %d updated, %d unchanged, %d failed\n",
				i.sum.Lines, i.sum.Created, i.sum.Updated, i.sum.Unchanged, i.sum.Failed)
		}
		if err == nil && i.sum.Failed > 0 {
			return &exitError{exitFailed, fmt.Errorf("%d of %d lines were not imported", i.sum.Failed, i.sum.Lines)}
		}
		return err
	}
	return cmd
}

// deviceImport sends lines in parts.
type deviceImport struct {
	c    *client
	told io.Writer

	part  bytes.Buffer
	first int // line of the part
	lines int // in the part

	sum importSum
}

type importSum struct {
	Lines     int               `json:"lines"`
	Created   int               `json:"created"`
	Updated   int               `json:"updated"`
	Unchanged int               `json:"unchanged"`
	Failed    int               `json:"failed"`
	Errors    []api.ImportError `json:"errors"`
}

func (i *deviceImport) run(ctx context.Context, in io.Reader) error {
	lines := bufio.NewScanner(unmarked(in))
	lines.Buffer(nil, importBytes)
	i.first = 1
	n := 0
	for lines.Scan() {
		n++
		if i.lines == importLines || i.part.Len()+len(lines.Bytes()) >= importBytes {
			if err := i.send(ctx); err != nil {
				return err
			}
			i.first = n
		}
		i.part.Write(lines.Bytes())
		i.part.WriteByte('\n')
		i.lines++
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return usage("line %d has more than %d bytes; is the file JSON lines?", n+1, importBytes)
		}
		return fmt.Errorf("read line %d: %w", n+1, err)
	}
	return i.send(ctx)
}

// send imports a part and adds up what became of it.
func (i *deviceImport) send(ctx context.Context) error {
	if i.lines == 0 {
		return nil
	}
	var got importSum
	_, _, err := i.c.do(ctx, request{
		method: http.MethodPost, path: "/import/devices", raw: i.part.Bytes(), header: http.Header{"Content-Type": {"application/x-ndjson"}},
	}, &got)
	if err != nil {
		return fmt.Errorf("lines %d to %d: %w", i.first, i.first+i.lines-1, err)
	}
	i.sum.Lines += got.Lines
	i.sum.Created += got.Created
	i.sum.Updated += got.Updated
	i.sum.Unchanged += got.Unchanged
	i.sum.Failed += got.Failed
	for _, e := range got.Errors {
		e.Line += i.first - 1
		i.sum.Errors = append(i.sum.Errors, e)
		if !i.c.json {
			fmt.Fprintln(i.told, lineFault(e))
		}
	}
	i.part.Reset()
	i.lines = 0
	return nil
}

func lineFault(e api.ImportError) string {
	where := fmt.Sprintf("line %d", e.Line)
	if e.ID != "" {
		where += " (" + plain(e.ID) + ")"
	}
	if e.Path != "" {
		where += ": " + plain(e.Path)
	}
	text := fmt.Sprintf("%s: %s (%s)", where, plain(e.Detail), e.Code)
	if e.Hint != "" {
		text += "; " + plain(e.Hint)
	}
	return text
}

// printJSON prints what the client put together itself.
func printJSON(cmd *cobra.Command, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		_, err = cmd.OutOrStdout().Write(append(data, '\n'))
	}
	return err
}
