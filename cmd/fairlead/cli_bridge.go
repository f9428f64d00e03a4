package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/commands/api"
)

func newBridgeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "bridge", Short: "The MQTT side", Args: exactArgs(0)}
	f := addClientFlags(cmd)
	cmd.AddCommand(bridgeStatusCommand(f))
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
