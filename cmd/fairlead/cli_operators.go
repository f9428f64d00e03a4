package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/commands/api"
)

func newOperatorsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "operators", Short: "Manage who may use the hub", Args: exactArgs(0)}
	f := addClientFlags(cmd)
	cmd.AddCommand(operatorsList(f), operatorsAdd(f), operatorsSet(f), operatorsRemove(f), operatorsToken(f), operatorsRevoke(f), operatorsLink(f))
	return cmd
}

func operatorsList(f *clientFlags) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List operators", Args: exactArgs(0), RunE: func(cmd *cobra.Command, _ []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		var list struct {
			Operators []api.Operator `json:"operators"`
		}
		raw, err := c.get(cmd.Context(), "/operators", nil, &list)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		t := newTable(cmd.OutOrStdout(), "NAME", "ROLE", "SELECTOR", "CREATED", "STATE")
		for _, o := range list.Operators {
			state := "enabled"
			if o.Disabled {
				state = "disabled"
			}
			t.row(o.Name, string(o.Role), o.Selector, moment(o.Created), state)
		}
		return t.flush()
	}}
}

func operatorsAdd(f *clientFlags) *cobra.Command {
	var role, selector, ttl string
	cmd := &cobra.Command{Use: "add NAME", Short: "Add an operator and print a token, once", Args: exactArgs(1)}
	cmd.Flags().StringVar(&role, "role", "viewer", "viewer, operator or admin")
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "see and command only these devices, as site=plant-7")
	cmd.Flags().StringVar(&ttl, "ttl", "", "how long the token is good, as 30d")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return f.mint(cmd, "/operators", map[string]string{"name": args[0], "role": role, "selector": selector, "ttl": ttl})
	}
	return cmd
}

func operatorsSet(f *clientFlags) *cobra.Command {
	var role, selector string
	var disabled bool
	cmd := &cobra.Command{Use: "set NAME", Short: "Change role, selector, or disable; it takes effect at once", Args: exactArgs(1)}
	cmd.Flags().StringVar(&role, "role", "", "viewer, operator or admin")
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "see and command only these devices; empty is all")
	cmd.Flags().BoolVar(&disabled, "disabled", false, "let nobody use this operator")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		body := map[string]any{}
		for name, value := range map[string]any{"role": role, "selector": selector, "disabled": disabled} {
			if cmd.Flags().Changed(name) {
				body[name] = value
			}
		}
		if len(body) == 0 {
			return usage("nothing to change: give --role, --selector or --disabled")
		}
		return f.change(cmd, request{method: http.MethodPatch, path: "/operators/" + escape(args[0]), body: body}, "operator %s changed\n", args[0])
	}
	return cmd
}

func operatorsRemove(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Remove an operator; its tokens and sessions end at once", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.change(cmd, request{method: http.MethodDelete, path: "/operators/" + escape(args[0])}, "operator %s removed\n", args[0])
		},
	}
}

func operatorsToken(f *clientFlags) *cobra.Command {
	var ttl, selector string
	cmd := &cobra.Command{Use: "token NAME", Short: "Mint another token", Args: exactArgs(1)}
	cmd.Flags().StringVar(&ttl, "ttl", "", "how long it is good, as 30d")
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "bind the token to part of what the operator sees")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return f.mint(cmd, "/operators/"+escape(args[0])+"/tokens", map[string]string{"ttl": ttl, "selector": selector})
	}
	return cmd
}

func operatorsRevoke(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME", Short: "Revoke all tokens, sessions and links made before now", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.change(cmd, request{method: http.MethodDelete, path: "/operators/" + escape(args[0]) + "/tokens"}, "tokens of %s revoked\n", args[0])
		},
	}
}

func operatorsLink(f *clientFlags) *cobra.Command {
	return &cobra.Command{Use: "link NAME", Short: "Make a link to the console that works once", Args: exactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		var made struct {
			Link    string `json:"link"`
			Expires int64  `json:"expires"`
		}
		_, raw, err := c.do(cmd.Context(), request{method: http.MethodPost, path: "/operators/" + escape(args[0]) + "/link"}, &made)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		fmt.Fprintln(cmd.ErrOrStderr(), "works once, until", moment(made.Expires))
		fmt.Fprintln(cmd.OutOrStdout(), made.Link)
		return nil
	}}
}
