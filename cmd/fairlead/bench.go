package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/internal/load"
)

// newBenchCommand measures this machine with real parts.
func newBenchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the hub on this machine, each figure beside its reference in the same run",
		Args:  exactArgs(0),
	}
	for _, c := range []*cobra.Command{newBenchIngestCommand(), newBenchLinkCommand(), newBenchChainCommand(), newBenchCommandsCommand()} {
		c.RunE = besideHost(c.RunE)
		cmd.AddCommand(c)
	}
	cmd.AddCommand(newBenchPartCommand())
	return cmd
}

// besideHost says after run how much of the machine its host took away meanwhile: what no reference in the same run shows.
func besideHost(run func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		before, err := load.ReadHost()
		if err != nil {
			return err
		}
		failed := run(cmd, args)
		after, err := load.ReadHost()
		if err != nil {
			return errors.Join(failed, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "the host took %.1f%% of the processors' time away meanwhile\n", 100*after.StolenSince(before))
		return failed
	}
}
