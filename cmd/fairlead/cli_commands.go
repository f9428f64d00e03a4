package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/commands/api"
)

func newCommandsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "commands", Short: "List, show, cancel and approve commands", Args: exactArgs(0)}
	f := addClientFlags(cmd)
	cmd.AddCommand(commandsList(f), commandsShow(f), commandsCancel(f), commandsApprove(f))
	return cmd
}

func commandsList(f *clientFlags) *cobra.Command {
	var device, state, actor string
	var awaiting bool
	cmd := &cobra.Command{Use: "list", Short: "List commands, newest first", Args: exactArgs(0)}
	cmd.Flags().StringVar(&device, "device", "", "of one device")
	cmd.Flags().StringVar(&state, "state", "", "in one state")
	cmd.Flags().StringVar(&actor, "actor", "", "of one operator")
	cmd.Flags().BoolVar(&awaiting, "awaiting", false, "that wait for a second operator")
	p := addPaging(cmd, 50)
	list := listing[api.Command]{
		path: "/commands", items: "commands", head: []string{"COMMAND", "CREATED", "DEVICE", "NAME", "STATE", "EVIDENCE", "ACTOR"},
		row: func(x api.Command) []string {
			return []string{x.ID, moment(x.Created), x.Device, x.Name, stateOf(x), x.Evidence, x.Actor}
		},
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return list.print(cmd, f, p, map[string]string{"device": device, "state": state, "actor": actor, "awaiting_approval": whenTrue(awaiting)})
	}
	return cmd
}

// whenTrue is a parameter that is there or not.
func whenTrue(b bool) string {
	if b {
		return "true"
	}
	return ""
}

func stateOf(c api.Command) string {
	if c.Awaiting {
		return c.State + " (awaits approval)"
	}
	if c.Late {
		return c.State + " (late)"
	}
	return c.State
}

func commandsShow(f *clientFlags) *cobra.Command {
	return &cobra.Command{Use: "show COMMAND", Short: "Show a command with its time line", Args: exactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		var x api.Command
		raw, err := c.get(cmd.Context(), "/commands/"+escape(args[0]), nil, &x)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		return printCommand(cmd, x)
	}}
}

func commandsCancel(f *clientFlags) *cobra.Command {
	return &cobra.Command{Use: "cancel COMMAND", Short: "Cancel a command, or ask the device to stop it", Args: exactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		var x api.Command
		_, raw, err := c.do(cmd.Context(), request{method: http.MethodDelete, path: "/commands/" + escape(args[0])}, &x)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		if !x.Final() {
			fmt.Fprintln(cmd.ErrOrStderr(), "the device is asked to stop")
		}
		return printCommand(cmd, x)
	}}
}

func commandsApprove(f *clientFlags) *cobra.Command {
	return &cobra.Command{Use: "approve COMMAND", Short: "Let a command go that waits for a second operator", Args: exactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		var x api.Command
		_, raw, err := c.do(cmd.Context(), request{method: http.MethodPost, path: "/commands/" + escape(args[0]) + "/approve"}, &x)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		return printCommand(cmd, x)
	}}
}

// printCommand prints what was asked, the time line with the evidence of each state, and what came of it.
func printCommand(cmd *cobra.Command, c api.Command) error {
	out := cmd.OutOrStdout()
	fmt.Fprintln(out, plain(fmt.Sprintf("%s  %s %s %s", c.ID, c.Device, c.Name, c.Params)))
	t := newTable(out, "TIME", "STATE", "EVIDENCE", "NODE", "DETAIL")
	for _, e := range c.Events {
		t.row(clockTime(e.Time), e.State, e.Evidence, e.Node, e.Detail)
	}
	if err := t.flush(); err != nil {
		return err
	}
	last := []string{stateOf(c)}
	if c.Evidence != "" {
		last = append(last, "("+c.Evidence+")")
	}
	if c.Error != nil {
		last = append(last, c.Error.Code+": "+c.Error.Message)
	}
	if len(c.Result) > 0 {
		last = append(last, string(c.Result))
	}
	if !c.Final() && c.Progress != nil {
		last = append(last, number(c.Progress.Percent)+" % "+c.Progress.Message)
	}
	fmt.Fprintln(out, plain(strings.Join(last, " ")))
	return nil
}
