package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/commands/api"
)

func newTraceCommand() *cobra.Command {
	var count int
	cmd := &cobra.Command{
		Use: "trace DEVICE", Short: "Follow each frame of a device, with its fate", Args: exactArgs(1),
		Long: "Trace prints each frame of a device as it comes (<) or goes (>), wherever its socket is: time, size, type, what became of it,\n" +
			"and the frame itself, CBOR as JSON, tokens blanked. Telemetry that has a seq is shown once it is stored (stored) or refused\n" +
			"(the code that the device was told); other fates are taken, sent, dropped. \"end\" is the end of a session, with its cause.\n" +
			"Of an MQTT device each message shows with its topic and payload: stored, taken (it held no points), sent, or why it was dropped;\n" +
			"not_authorized is what a device with a token may not publish or subscribe to.",
		Example: "  fairlead trace pump-7\n  fairlead trace pump-7 -o json | jq 'select(.fate == \"invalid_field\")'",
	}
	f := addClientFlags(cmd)
	cmd.Flags().IntVarP(&count, "count", "n", 0, "stop after so many frames")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		var d api.Device
		if _, err := c.get(cmd.Context(), "/devices/"+escape(args[0]), nil, &d); err != nil {
			return err
		}
		if d.Status != api.Online {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s is not on line; its frames show when it comes\n", d.ID)
		}
		t := &tail{client: c, cmd: cmd, left: count, bounded: count > 0}
		t.subscribe = map[string]any{"subscribe": map[string]any{"devices": args, "events": []api.Kind{api.TraceKind}}}
		return t.run(cmd.Context())
	}
	return cmd
}

// frame prints one line of a trace.
func (t *tail) frame(f api.TraceFrame, dropped int64) {
	if dropped > 0 {
		fmt.Fprintf(t.cmd.ErrOrStderr(), "%d frames lost: too many at once\n", dropped)
	}
	arrow := "<"
	if f.Direction == "out" {
		arrow = ">"
	}
	kind := f.Type
	if kind == "" {
		kind = "?"
	}
	fmt.Fprintf(t.cmd.OutOrStdout(), "%s %s %6d B  %-10s %-14s %s\n", clockTime(f.Time), arrow, f.Bytes, plain(kind), plain(f.Fate), plain(f.Frame))
}
