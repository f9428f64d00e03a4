package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// importFlags say what to import and how.
type importFlags struct {
	*clientFlags
	rowOptions
	format, precision string
	create            bool
	skip, maxErrors   int
	patience          time.Duration
}

func newImportCommand() *cobra.Command {
	f := &importFlags{}
	cmd := &cobra.Command{
		Use: "import FILE...", Short: "Store telemetry from files of line protocol or CSV, as the devices themselves would send it",
		Long: "Every point is checked and stored as if its device had sent it: names, types and limits are the same, and the hub adds\n" +
			"the device's tags. The device is named by --device, or by a tag or column of each row. CSV has a header; a column for the\n" +
			"time, the others are fields (or tags, with --tags). FILE - is standard input.",
		Example: "  fairlead import history.lp\n  fairlead import --device pump-7 --measurement env readings.csv",
		Args:    atLeast(1),
	}
	f.clientFlags = addClientFlags(cmd)
	fs := cmd.Flags()
	fs.StringVar(&f.device, "device", "", "device of all rows")
	fs.StringVar(&f.deviceKey, "device-key", "device", "tag or column that names the device")
	fs.StringVar(&f.format, "format", "auto", "line or csv; auto goes by the file's name")
	fs.StringVar(&f.measurement, "measurement", "telemetry", "measurement of CSV rows")
	fs.StringVar(&f.timeColumn, "time-column", "", "column of the time; default time, timestamp, ts, _time or date")
	fs.StringSliceVar(&f.tags, "tags", nil, "CSV columns that are tags")
	fs.StringSliceVar(&f.drop, "drop", nil, "tags or columns to leave out, as those that the hub sets itself")
	fs.StringVar(&f.precision, "precision", "", "unit of times that are numbers: ns, us, ms, s; default ns for line protocol, by their size for CSV")
	fs.BoolVar(&f.create, "create", false, "add devices that the hub does not know")
	fs.IntVar(&f.skip, "skip", 0, "lines of the (first) file that are stored already, as an earlier import reported")
	fs.IntVar(&f.maxErrors, "max-errors", 100, "stop after so many refused rows")
	fs.DurationVar(&f.patience, "retry-for", 5*time.Minute, "how long to try again while the hub takes nothing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) }
	return cmd
}

var importPrecisions = map[string]time.Duration{
	"": 0, "ns": time.Nanosecond, "us": time.Microsecond, "ms": time.Millisecond, "s": time.Second,
}

func (f *importFlags) run(cmd *cobra.Command, files []string) error {
	var known bool
	if f.rowOptions.precision, known = importPrecisions[f.precision]; !known {
		return usage("--precision %s: want ns, us, ms or s", f.precision)
	}
	if f.device != "" {
		if err := wire.CheckID(f.device); err != nil {
			return usage("--device: %w", err)
		}
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	refused := 0
	for i, name := range files {
		j := importJob{name: name, flags: f, errs: cmd.ErrOrStderr()}
		if i == 0 {
			j.skip = f.skip
		}
		in, err := openInput(cmd.InOrStdin(), name)
		if err != nil {
			return usage("%w", err)
		}
		err = errors.Join(j.run(cmd.Context(), c, in), in.Close())
		refused += j.refused
		if err := j.report(cmd.OutOrStdout(), c.json, err); err != nil {
			return err
		}
		if err != nil {
			return fmt.Errorf("%s: %w\nto go on: fairlead import --skip %d ... %s", name, err, j.through, strings.Join(files[i:], " "))
		}
	}
	if refused > 0 {
		return &exitError{exitFailed, fmt.Errorf("%s refused", plural(int64(refused), "row"))}
	}
	return nil
}

func openInput(stdin io.Reader, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(stdin), nil
	}
	return os.Open(name)
}

// importJob is the import of one file.
type importJob struct {
	name  string
	flags *importFlags
	errs  io.Writer
	skip  int

	sender  sender
	refused int
	through int // every line up to here is stored or refused
}

// errTooManyRefused ends an import that makes no sense.
var errTooManyRefused = errors.New("too many rows are refused (--max-errors)")

func (j *importJob) run(ctx context.Context, c *client, in io.Reader) error {
	source, err := openRows(in, j.name, j.flags.format, j.flags.rowOptions)
	if err != nil {
		return err
	}
	j.through = j.skip
	j.sender = sender{
		c: c, create: j.flags.create, patience: j.flags.patience, refused: j.refuse, tokens: make(map[string]string),
	}
	batch := make([]row, 0, importRows)
	last := j.skip
	for more := true; more; {
		r, err := source.next()
		var fault *rowFault
		switch {
		case errors.Is(err, io.EOF):
			more = false
		case errors.As(err, &fault):
			if fault.line > j.skip {
				j.refuse(fault)
				last = fault.line
			}
		case err != nil:
			return errors.Join(j.flush(ctx, &batch, last), err)
		case r.line > j.skip:
			batch = append(batch, r)
			last = r.line
		}
		if !more || len(batch) == importRows || j.refused > j.flags.maxErrors {
			if err := j.flush(ctx, &batch, last); err != nil {
				return err
			}
		}
		if j.refused > j.flags.maxErrors {
			return errTooManyRefused
		}
	}
	return nil
}

// flush stores the batch; only then is the file stored up to line last.
func (j *importJob) flush(ctx context.Context, batch *[]row, last int) error {
	if err := j.sender.window(ctx, *batch); err != nil {
		return err
	}
	*batch = (*batch)[:0]
	j.through = last
	return nil
}

// refuse tells of a row that is not stored. The sender calls it one at a time, while nothing else runs.
func (j *importJob) refuse(f *rowFault) {
	j.refused++
	if j.refused <= j.flags.maxErrors+1 {
		fmt.Fprintf(j.errs, "%s: %v\n", j.name, f)
	}
}

// report says what became of the file.
func (j *importJob) report(w io.Writer, asJSON bool, failed error) error {
	if asJSON {
		return json.NewEncoder(w).Encode(struct {
			File    string `json:"file"`
			Stored  int64  `json:"stored"`
			Refused int    `json:"refused"`
			Through int    `json:"through_line"`
			Done    bool   `json:"done"`
		}{j.name, j.sender.stored, j.refused, j.through, failed == nil})
	}
	_, err := fmt.Fprintf(w, "%s: %s stored, %d refused, done up to line %d\n", j.name, plural(j.sender.stored, "row"), j.refused, j.through)
	return err
}
