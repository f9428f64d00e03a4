package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/commands/api"
)

func newDeadlettersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "deadletters", Short: "Points that InfluxDB refused, and why", Args: exactArgs(0),
		Long: `A point that InfluxDB refuses after its ack is set aside with InfluxDB's own reason, for ingest.deadletter_keep. Once what it
complains of is mended, replay writes such points again; those that are refused again stay.`,
	}
	f := addClientFlags(cmd)
	cmd.AddCommand(deadlettersList(f), deadlettersReplay(f))
	return cmd
}

func deadlettersList(f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "list [DEVICE]", Short: "List refused points, the newest first", Args: atMost(1)}
	p := addPaging(cmd, 50)
	list := listing[api.Deadletter]{
		path: "/deadletters", items: "deadletters", head: []string{"ID", "REFUSED", "DEVICE", "REASON", "LINE"},
		row: func(d api.Deadletter) []string {
			return []string{strconv.FormatUint(d.ID, 10), moment(d.Time), d.Device, d.Reason, d.Line}
		},
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return list.print(cmd, f, p, map[string]string{"device": strings.Join(args, "")})
	}
	return cmd
}

// replayWait bounds a replay: it reads and writes every point.
const replayWait = 5 * time.Minute

func deadlettersReplay(f *clientFlags) *cobra.Command {
	var device string
	cmd := &cobra.Command{
		Use: "replay [ID...]", Short: "Put refused points back: those named, those of a device, or all", Args: atLeast(0),
		Example: "  fairlead deadletters replay --device pump-7",
	}
	cmd.Flags().StringVar(&device, "device", "", "all of this device")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("device") && device == "" {
			return usage("--device is empty; leave it out to replay all")
		}
		ids := make([]uint64, len(args))
		for i, text := range args {
			id, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				return usage("%q is not the id of a refused point; fairlead deadletters list shows them", text)
			}
			ids[i] = id
		}
		c, err := f.client()
		if err != nil {
			return err
		}
		body := map[string]any{}
		if len(ids) > 0 {
			body["ids"] = ids
		}
		if device != "" {
			body["device"] = device
		}
		var done struct {
			Replayed int `json:"replayed"`
		}
		_, raw, err := c.do(cmd.Context(), request{method: http.MethodPost, path: "/deadletters/replay", body: body, wait: replayWait}, &done)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "put back: %d (what InfluxDB refuses again stays in the list)\n", done.Replayed)
		return nil
	}
	return cmd
}
