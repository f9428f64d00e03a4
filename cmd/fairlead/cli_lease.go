package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/commands/api"
)

func devicesHold(f *clientFlags) *cobra.Command {
	var ttl time.Duration
	var takeover bool
	cmd := &cobra.Command{Use: "hold DEVICE", Short: "Hold a device: commands of others are refused", Args: exactArgs(1)}
	cmd.Flags().DurationVar(&ttl, "ttl", 10*time.Minute, "for how long; again before it ends prolongs it")
	cmd.Flags().BoolVar(&takeover, "takeover", false, "take it from whoever has it (admin)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return lease(cmd, f, request{method: http.MethodPost, path: leasePath(args[0]), body: map[string]any{"ttl": ttl.String(), "takeover": takeover}})
	}
	return cmd
}

func devicesRelease(f *clientFlags) *cobra.Command {
	return &cobra.Command{Use: "release DEVICE", Short: "Give a device back", Args: exactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		_, _, err = c.do(cmd.Context(), request{method: http.MethodDelete, path: leasePath(args[0])}, nil)
		return err
	}}
}

func devicesLease(f *clientFlags) *cobra.Command {
	return &cobra.Command{Use: "lease DEVICE", Short: "Show who holds a device", Args: exactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return lease(cmd, f, request{method: http.MethodGet, path: leasePath(args[0])})
	}}
}

func leasePath(device string) string { return "/devices/" + escape(device) + "/lease" }

// lease makes a call that answers with a lease, and prints it.
func lease(cmd *cobra.Command, f *clientFlags, q request) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	var l api.Lease
	_, raw, err := c.do(cmd.Context(), q, &l)
	if err != nil || c.json {
		return printRaw(cmd, raw, err)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), plain(l.Device+" is held by "+l.Holder+" until "+moment(l.Until)))
	return err
}
