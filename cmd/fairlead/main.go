// Command fairlead is the hub: it keeps a fleet of devices on the line, stores what they measure and carries commands
// back to them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	// The first signal asks for an orderly stop, the second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := newRootCommand().ExecuteContext(ctx)
	if err == nil {
		return
	}
	code := 1
	var exit *exitError
	if errors.As(err, &exit) {
		code = exit.code
	}
	if err.Error() != "" {
		fmt.Fprintln(os.Stderr, "fairlead:", err)
	}
	os.Exit(code)
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "fairlead",
		Short:         "Device telemetry and command hub",
		Long:          "Fairlead keeps a fleet of devices on the line: it authenticates them by JWT, holds one WebSocket each, stores what\nthey measure in InfluxDB, carries operators' commands back down the right socket, and bridges MQTT fleets.",
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		newServeCommand(), newDemoCommand(), newSimCommand(), newConfigCommand(),
		newDevicesCommand(), newSendCommand(), newCommandsCommand(), newJobsCommand(), newTailCommand(), newTraceCommand(), newQueryCommand(),
		newStateCommand(), newTypesCommand(), newDeadlettersCommand(), newBridgeCommand(), newEnrollmentsCommand(), newKeysCommand(), newOperatorsCommand(), newAuditCommand(), newBenchCommand(),
		newImportCommand(), newExportCommand(), newInfluxCommand(),
	)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%w", err) })
	refuseUnknown(root)
	return root
}

// refuseUnknown has a misspelt command fail, at whatever depth: a script would take help and exit code 0 for done.
func refuseUnknown(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		refuseUnknown(sub)
	}
	if cmd.Runnable() || !cmd.HasSubCommands() {
		return
	}
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2 // cobra's own default, which it sets only where it suggests itself
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		text := fmt.Sprintf("there is no command %q; see: %s --help", args[0], cmd.CommandPath())
		if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
			text += "\nsimilar: " + strings.Join(like, ", ")
		}
		return usage("%s", text)
	}
}

// version is what the build says of itself.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && v == "(devel)" {
			v += "+" + s.Value[:min(len(s.Value), 12)]
		}
	}
	return v
}
