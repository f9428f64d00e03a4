package main

import (
	"fmt"
	"net/url"
	"strconv"

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
	var limit int
	var cursor string
	cmd := &cobra.Command{Use: "list", Short: "List changes and refused changes, newest first", Args: exactArgs(0)}
	cmd.Flags().IntVar(&limit, "limit", 50, "how many")
	cmd.Flags().StringVar(&cursor, "cursor", "", "where the last list ended")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		q := url.Values{"limit": {strconv.Itoa(limit)}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		var list struct {
			Records []api.Record `json:"records"`
			Cursor  string       `json:"cursor"`
		}
		raw, err := c.get(cmd.Context(), "/audit", q, &list)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		t := newTable(cmd.OutOrStdout(), "TIME", "ACTOR", "FROM", "ACTION", "TARGET", "OUTCOME", "DETAIL")
		for _, r := range list.Records {
			t.row(moment(r.Time), r.Actor, r.Remote, r.Action, r.Target, r.Outcome, r.Detail)
		}
		if err := t.flush(); err != nil {
			return err
		}
		if list.Cursor != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "there are more: --cursor %s\n", list.Cursor)
		}
		return nil
	}
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
		}
		if !v.Whole {
			return &exitError{exitFailed, fmt.Errorf("the audit log is not whole: %s", v.Fault)}
		}
		return nil
	}}
}
