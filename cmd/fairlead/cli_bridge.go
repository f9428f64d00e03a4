package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/bridge"
	"github.com/fairlead-hub/fairlead/commands/api"
	"github.com/fairlead-hub/fairlead/configs"
)

func newBridgeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "bridge", Short: "The MQTT side", Args: exactArgs(0)}
	f := addClientFlags(cmd)
	cmd.AddCommand(bridgeStatusCommand(f), bridgeScanCommand(f), bridgeTestCommand())
	return cmd
}

func bridgeStatusCommand(f *clientFlags) *cobra.Command {
	var topics bool
	cmd := &cobra.Command{Use: "status", Short: "Connections, their counters and the topics seen", Args: exactArgs(0)}
	cmd.Flags().BoolVar(&topics, "topics", false, "list topics too, those that no map knows first")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		var b api.Bridge
		raw, err := c.get(cmd.Context(), "/bridge", nil, &b)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		t := newTable(cmd.OutOrStdout(), "CONNECTION", "STATE", "SINCE", "URL", "RECEIVED", "ACKED", "PUBLISHED", "DROPPED", "ERROR")
		for _, x := range b.Connections {
			t.row(x.Name, x.State, moment(x.Since), x.URL, count(x.Received), count(x.Acked), count(x.Published), count(x.Dropped), x.LastError)
		}
		if err := t.flush(); err != nil || !topics {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout())
		return printTopics(cmd, b)
	}
	return cmd
}

func bridgeScanCommand(f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "scan", Short: "The topics seen, those that no map or profile knows first", Args: exactArgs(0)}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		var b api.Bridge
		raw, err := c.get(cmd.Context(), "/bridge", nil, &b)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		return printTopics(cmd, b)
	}
	return cmd
}

// bridgeTestCommand shows what a message would become. It asks no hub: the configuration alone decides.
func bridgeTestCommand() *cobra.Command {
	var file, name string
	cmd := &cobra.Command{
		Use: "test TOPIC PAYLOAD", Short: "Show what a message would become by the maps and profiles of a configuration", Args: asUsage(cobra.ExactArgs(2)), // a payload may be empty
		Example: `  fairlead bridge test -c fairlead.yaml tele/plug1/SENSOR '{"ENERGY":{"Power":12}}'`,
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	cmd.Flags().StringVar(&name, "connection", "", "name of the connection (default: all)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := configs.Load(file, os.Environ())
		if err != nil {
			return err
		}
		found := false
		for _, conn := range cfg.Bridge.Connections {
			if name != "" && conn.Name != name {
				continue
			}
			found = true
			explained, err := bridge.Explain(conn, args[0], []byte(args[1]))
			if err != nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: not taken: %v\n", conn.Name, err)
			}
			for _, e := range explained {
				printExplanation(cmd, conn.Name, e)
			}
		}
		if !found {
			return fmt.Errorf("no connection %q in bridge.connections", name)
		}
		return nil
	}
	return cmd
}

func printExplanation(cmd *cobra.Command, connection string, e bridge.Explanation) {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "%s: by %s", connection, e.By)
	if e.Device != "" {
		fmt.Fprintf(out, ", device %s", e.Device)
	}
	fmt.Fprintln(out)
	for _, l := range append(e.Lines, e.Says...) {
		fmt.Fprintf(out, "  %s\n", l)
	}
}

func printTopics(cmd *cobra.Command, b api.Bridge) error {
	t := newTable(cmd.OutOrStdout(), "CONNECTION", "TOPIC", "MAPPED", "MESSAGES", "LAST", "ERROR")
	for _, mapped := range []bool{false, true} {
		for _, x := range b.Connections {
			for _, topic := range x.Topics {
				if topic.Mapped == mapped {
					t.row(x.Name, topic.Topic, strconv.FormatBool(mapped), count(topic.Messages), moment(topic.LastTime), topic.LastError)
				}
			}
		}
	}
	return t.flush()
}

func count(n uint64) string { return strconv.FormatUint(n, 10) }
