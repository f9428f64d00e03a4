package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/commands/api"
)

func newEnrollmentsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "enrollments", Short: "Let devices make their own records with one secret", Args: exactArgs(0)}
	f := addClientFlags(cmd)
	cmd.AddCommand(enrollmentsCreate(f), enrollmentsList(f), enrollmentsDelete(f), enrollmentsPending(f), enrollmentsApprove(f))
	return cmd
}

func enrollmentsCreate(f *clientFlags) *cobra.Command {
	var labels []string
	body := map[string]any{}
	var devices int
	var ttl, prefix string
	var approve bool
	cmd := &cobra.Command{
		Use: "create", Short: "Make an enrollment and print its secret, once", Args: exactArgs(0),
		Example: "  fairlead enrollments create --devices 100 --ttl 7d -l site=plant-7 --prefix pump-",
	}
	cmd.Flags().IntVarP(&devices, "devices", "n", 0, "how many devices may use it")
	cmd.Flags().StringVar(&ttl, "ttl", "", "how long it is good, as 24h (default 7d)")
	cmd.Flags().StringVar(&prefix, "prefix", "", "device ids must begin with this")
	cmd.Flags().BoolVar(&approve, "approve", false, "devices wait until an operator approves each")
	cmd.Flags().StringArrayVarP(&labels, "label", "l", nil, "key=value, of each device; may be repeated")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		set := map[string]string{}
		for _, l := range labels {
			k, v, ok := strings.Cut(l, "=")
			if !ok {
				return usage("label %q: want key=value", l)
			}
			set[k] = v
		}
		if devices < 1 {
			return usage("say how many devices may use it: --devices 100")
		}
		body["max_devices"], body["labels"], body["approve"] = devices, set, approve
		if ttl != "" {
			body["ttl"] = ttl
		}
		if prefix != "" {
			body["prefix"] = prefix
		}
		c, err := f.client()
		if err != nil {
			return err
		}
		var made struct {
			Enrollment api.Enrollment `json:"enrollment"`
			Secret     string         `json:"secret"`
		}
		_, raw, err := c.do(cmd.Context(), request{method: http.MethodPost, path: "/enrollments", body: body}, &made)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "enrollment %s for %d devices, until %s; its secret, shown this once:\n",
			made.Enrollment.ID, made.Enrollment.MaxDevices, moment(made.Enrollment.Expires))
		fmt.Fprintln(cmd.OutOrStdout(), made.Secret)
		return nil
	}
	return cmd
}

func enrollmentsList(f *clientFlags) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List enrollments", Args: exactArgs(0), RunE: func(cmd *cobra.Command, _ []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		var list struct {
			Enrollments []api.Enrollment `json:"enrollments"`
		}
		raw, err := c.get(cmd.Context(), "/enrollments", nil, &list)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		t := newTable(cmd.OutOrStdout(), "ENROLLMENT", "USED", "STATE", "EXPIRES", "PREFIX", "LABELS", "BY")
		for _, e := range list.Enrollments {
			state := "open"
			switch {
			case e.Expired:
				state = "expired"
			case e.Used >= e.MaxDevices:
				state = "used up"
			case e.Approve:
				state = "open, to be approved"
			}
			t.row(e.ID, fmt.Sprintf("%d of %d", e.Used, e.MaxDevices), state, moment(e.Expires), e.Prefix, pairs(e.Labels), e.Actor)
		}
		return t.flush()
	}}
}

func enrollmentsDelete(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "delete ENROLLMENT", Short: "End an enrollment; its devices stay", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.change(cmd, request{method: http.MethodDelete, path: "/enrollments/" + escape(args[0])}, "enrollment %s deleted\n", args[0])
		},
	}
}

// pending reads all devices that wait.
func (c *client) pending(cmd *cobra.Command) (all []api.Device, err error) {
	q := url.Values{"limit": {strconv.Itoa(1000)}}
	for {
		var list struct {
			Devices []api.Device `json:"devices"`
			Cursor  string       `json:"cursor"`
		}
		if _, err := c.get(cmd.Context(), "/enrollments/pending", q, &list); err != nil {
			return nil, err
		}
		all = append(all, list.Devices...)
		if list.Cursor == "" {
			return all, nil
		}
		q.Set("cursor", list.Cursor)
	}
}

func enrollmentsPending(f *clientFlags) *cobra.Command {
	return &cobra.Command{Use: "pending", Short: "List the devices that wait for approval", Args: exactArgs(0), RunE: func(cmd *cobra.Command, _ []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		all, err := c.pending(cmd)
		if err != nil {
			return err
		}
		if c.json {
			return printJSON(cmd, map[string]any{"devices": all})
		}
		t := newTable(cmd.OutOrStdout(), "DEVICE", "ENROLLMENT", "SINCE", "MODEL", "FIRMWARE", "KEY", "LABELS")
		for _, d := range all {
			key := ""
			if len(d.Keys) > 0 {
				key = d.Keys[0].KID
			}
			t.row(d.ID, d.Enrolled, moment(d.Created), d.Model, d.Firmware, key, pairs(d.Labels))
		}
		return t.flush()
	}}
}

func enrollmentsApprove(f *clientFlags) *cobra.Command {
	var all bool
	cmd := &cobra.Command{Use: "approve DEVICE ... | --all", Short: "Let devices that wait come on line", Args: atLeast(0)}
	cmd.Flags().BoolVar(&all, "all", false, "all that wait now")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if all == (len(args) > 0) {
			return usage("name devices, or --all")
		}
		c, err := f.client()
		if err != nil {
			return err
		}
		waiting, err := c.pending(cmd)
		if err != nil {
			return err
		}
		of := make(map[string]string, len(waiting))
		for _, d := range waiting {
			of[d.ID] = d.Enrolled
			if all {
				args = append(args, d.ID)
			}
		}
		for _, id := range args {
			enrollment, ok := of[id]
			if !ok {
				return &exitError{exitFailed, fmt.Errorf("device %s does not wait for approval; list those that do with: fairlead enrollments pending", id)}
			}
			path := "/enrollments/" + escape(enrollment) + "/devices/" + escape(id) + "/approve"
			if _, _, err := c.do(cmd.Context(), request{method: http.MethodPost, path: path}, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "device %s approved\n", id)
		}
		return nil
	}
	return cmd
}
