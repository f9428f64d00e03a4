package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
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
	var limit int
	var cursor string
	cmd := &cobra.Command{Use: "list [DEVICE]", Short: "List refused points, the newest first", Args: asUsage(cobra.MaximumNArgs(1))}
	cmd.Flags().IntVar(&limit, "limit", 50, "how many")
	cmd.Flags().StringVar(&cursor, "cursor", "", "where the last list ended")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		q := url.Values{"limit": {strconv.Itoa(limit)}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		if len(args) > 0 {
			q.Set("device", args[0])
		}
		var list struct {
			Deadletters []api.Deadletter `json:"deadletters"`
			Cursor      string           `json:"cursor"`
		}
		raw, err := c.get(cmd.Context(), "/deadletters", q, &list)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		t := newTable(cmd.OutOrStdout(), "ID", "REFUSED", "DEVICE", "REASON", "LINE")
		for _, d := range list.Deadletters {
			t.row(strconv.FormatUint(d.ID, 10), moment(d.Time), d.Device, d.Reason, d.Line)
		}
		if err := t.flush(); err != nil {
			return err
		}
		if list.Cursor != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "there are more: --cursor %s\n", list.Cursor)
		}
		return nil
	}
	return cmd
}

// replayWait bounds a replay: it reads and writes every point.
const replayWait = 5 * time.Minute

func deadlettersReplay(f *clientFlags) *cobra.Command {
	var device string
	cmd := &cobra.Command{
		Use: "replay [ID...]", Short: "Put refused points back: those named, those of a device, or all",
		Example: "  fairlead deadletters replay --device pump-7",
	}
	cmd.Flags().StringVar(&device, "device", "", "all of this device")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
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
