package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/commands/api"
)

func newAuditCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Who changed what", Args: exactArgs(0)}
	f := addClientFlags(cmd)
	cmd.AddCommand(auditList(f), auditVerify(f))
	return cmd
}

func auditList(f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List changes and refused changes, newest first", Args: exactArgs(0)}
	p := addPaging(cmd, 50)
	list := listing[api.Record]{
		path: "/audit", items: "records", head: []string{"TIME", "ACTOR", "FROM", "ACTION", "TARGET", "OUTCOME", "DETAIL"},
		row: func(r api.Record) []string {
			return []string{moment(r.Time), r.Actor, r.Remote, r.Action, r.Target, r.Outcome, r.Detail}
		},
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return list.print(cmd, f, p, nil) }
	return cmd
}

func auditVerify(f *clientFlags) *cobra.Command {
	return &cobra.Command{Use: "verify", Short: "Prove that no record was changed or removed", Args: exactArgs(0), RunE: func(cmd *cobra.Command, _ []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		var v api.Verification
		raw, err := c.get(cmd.Context(), "/audit/verify", nil, &v)
		if err != nil {
			return err
		}
		if c.json {
			if err := printRaw(cmd, raw, nil); err != nil {
				return err
			}
		} else if v.Whole {
			fmt.Fprintf(cmd.OutOrStdout(), "whole: %d records from %s to %s\nhead %s\n", v.Records, moment(v.First), moment(v.Last), v.Head)
			if !v.Complete {
				fmt.Fprintf(cmd.OutOrStdout(), "not from the beginning: %d messages before these are gone, by the log's limits of age and bytes or by somebody's hand%s\n",
					v.Dropped, after(v.Before))
			}
		}
		if !v.Whole {
			return &exitError{exitFailed, fmt.Errorf("the audit log is not whole: %s", v.Fault)}
		}
		return nil
	}}
}

// after names the record that the oldest one kept follows: whoever noted it as the head has missed nothing since.
func after(hash string) string {
	if hash == "" {
		return ""
	}
	return "; the oldest follows the head " + hash
}
