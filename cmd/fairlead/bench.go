package main

import "github.com/spf13/cobra"

// newBenchCommand measures this machine with real parts.
func newBenchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the hub on this machine, each figure beside its reference in the same run",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newBenchIngestCommand(), newBenchLinkCommand(), newBenchChainCommand(), newBenchCommandsCommand(), newBenchPartCommand())
	return cmd
}
