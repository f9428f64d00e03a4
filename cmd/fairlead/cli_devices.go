package main

import (
	"fmt"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/commands/api"
)

func newDevicesCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "devices", Short: "List, show, add and change devices", Args: exactArgs(0)}
	f := addClientFlags(cmd)
	cmd.AddCommand(devicesList(f), devicesShow(f), devicesAdd(f), devicesSwitch(f, "enable", false), devicesSwitch(f, "disable", true),
		devicesLabel(f), devicesExpect(f), devicesDelete(f), devicesToken(f), devicesKeys(f), devicesHold(f), devicesRelease(f), devicesLease(f),
		devicesImport(f), devicesExport(f))
	return cmd
}

func devicesList(f *clientFlags) *cobra.Command {
	var selector, status, text string
	var silent bool
	cmd := &cobra.Command{Use: "list", Short: "List devices", Args: exactArgs(0)}
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "labels that must hold, as site=plant-7,line!=3")
	cmd.Flags().StringVar(&status, "status", "", "online, offline or never")
	cmd.Flags().BoolVar(&silent, "silent", false, "only those that send no telemetry though it is expected; --silent=false: the others")
	cmd.Flags().StringVarP(&text, "query", "q", "", "text in id, model or label")
	p := addPaging(cmd, 1000)
	list := listing[api.Device]{
		path: "/devices", items: "devices",
		head: []string{"DEVICE", "STATUS", "SINCE", "EXPECT", "LINK", "ADDRESS", "MODEL", "FIRMWARE", "LABELS"},
		row: func(d api.Device) []string {
			return []string{d.ID, deviceStatus(d), moment(d.Since), d.ExpectEvery, d.Link, d.Address, d.Model, d.Firmware, pairs(d.Labels)}
		},
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		pick := map[string]string{"selector": selector, "status": status, "q": text}
		if cmd.Flags().Changed("silent") {
			pick["silent"] = strconv.FormatBool(silent)
		}
		return list.print(cmd, f, p, pick)
	}
	return cmd
}

func deviceStatus(d api.Device) string {
	var marks []string
	if d.Disabled {
		marks = append(marks, "disabled")
	}
	if d.Pending {
		marks = append(marks, "pending")
	}
	if d.Silent {
		marks = append(marks, "silent")
	}
	if d.Conflict {
		marks = append(marks, "conflict")
	}
	if len(marks) == 0 {
		return string(d.Status)
	}
	return string(d.Status) + " (" + strings.Join(marks, ", ") + ")"
}

// printRaw prints the API's own JSON.
func printRaw(cmd *cobra.Command, raw []byte, err error) error {
	if err == nil && len(raw) > 0 {
		_, err = cmd.OutOrStdout().Write(raw)
	}
	return err
}

func devicesShow(f *clientFlags) *cobra.Command {
	return &cobra.Command{Use: "show DEVICE", Short: "Show one device", Args: exactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		var d api.Device
		raw, err := c.get(cmd.Context(), "/devices/"+escape(args[0]), nil, &d)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		return printDevice(cmd, d)
	}}
}

func printDevice(cmd *cobra.Command, d api.Device) error {
	out := cmd.OutOrStdout()
	silent, flaps := "", ""
	if d.Silent {
		silent = moment(d.SilentSince)
	}
	if d.Flaps > 0 {
		flaps = strconv.Itoa(d.Flaps)
	}
	t := newTable(out, "DEVICE", d.ID)
	for _, row := range [][2]string{
		{"status", deviceStatus(d)},
		{"since", moment(d.Since)},
		{"last seen", moment(d.LastSeen)},
		{"cause", d.Cause},
		{"expected every", d.ExpectEvery},
		{"silent since", silent},
		{"replaced lately", flaps},
		{"link", d.Link},
		{"address", d.Address},
		{"node", d.Node},
		{"session", d.Session},
		{"model", d.Model},
		{"firmware", d.Firmware},
		{"labels", pairs(d.Labels)},
		{"created", moment(d.Created)},
	} {
		t.row(row[0], row[1])
	}
	for _, k := range d.Keys {
		t.row("key", k.KID+" ("+k.Alg+")")
	}
	for _, s := range d.Commands {
		mark := ""
		if s.Dangerous {
			mark = " (dangerous)"
		}
		t.row("command", strings.TrimSpace(s.Name+mark+" "+string(s.Params)))
	}
	names := make([]string, 0, len(d.Last))
	for name := range d.Last {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		t.row(name, number(d.Last[name].Value)+" at "+moment(d.Last[name].Time))
	}
	return t.flush()
}

func devicesAdd(f *clientFlags) *cobra.Command {
	var labels []string
	var key, kid string
	cmd := &cobra.Command{Use: "add DEVICE", Short: "Add a device and print its token, once", Args: exactArgs(1)}
	cmd.Flags().StringArrayVarP(&labels, "label", "l", nil, "key=value; may be repeated")
	cmd.Flags().StringVar(&key, "key", "", "PEM file with the device's public key; then no token is made")
	cmd.Flags().StringVar(&kid, "kid", "key-1", "kid of the key")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		d := api.NewDevice{ID: args[0], Labels: map[string]string{}}
		for _, l := range labels {
			k, v, ok := strings.Cut(l, "=")
			if !ok {
				return usage("label %q: want key=value", l)
			}
			d.Labels[k] = v
		}
		if key != "" {
			pem, err := os.ReadFile(key)
			if err != nil {
				return usage("read key: %w", err)
			}
			d.Keys = []api.NewKey{{KID: kid, PublicKey: string(pem)}}
		}
		var made struct {
			Token string `json:"token"`
		}
		_, raw, err := c.do(cmd.Context(), request{method: http.MethodPost, path: "/devices", body: d}, &made)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "device %s added\n", args[0])
		if made.Token != "" {
			fmt.Fprintln(cmd.ErrOrStderr(), "its token, shown this once:")
			fmt.Fprintln(cmd.OutOrStdout(), made.Token)
		}
		return nil
	}
	return cmd
}

func devicesSwitch(f *clientFlags, verb string, disabled bool) *cobra.Command {
	return &cobra.Command{
		Use: verb + " DEVICE", Short: strings.ToUpper(verb[:1]) + verb[1:] + " a device", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.change(cmd, request{method: http.MethodPatch, path: "/devices/" + escape(args[0]), body: api.DevicePatch{Disabled: &disabled}},
				"device %s %sd\n", args[0], verb)
		},
	}
}

func devicesLabel(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "label DEVICE key=value|key- ...", Short: "Set labels, or remove those written with a minus at the end", Args: atLeast(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p := api.DevicePatch{Labels: map[string]*string{}}
			for _, l := range args[1:] {
				if k, v, ok := strings.Cut(l, "="); ok {
					p.Labels[k] = &v
				} else if k, ok := strings.CutSuffix(l, "-"); ok {
					p.Labels[k] = nil
				} else {
					return usage("label %q: want key=value or key-", l)
				}
			}
			return f.change(cmd, request{method: http.MethodPatch, path: "/devices/" + escape(args[0]), body: p}, "device %s labelled\n", args[0])
		},
	}
}

func devicesExpect(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "expect DEVICE EVERY|never|default", Short: "Say how often a device should send telemetry; one that does not is silent", Args: exactArgs(2),
		Example: "  fairlead devices expect pump-7 60s\n  fairlead devices expect pump-7 never\n  fairlead devices expect pump-7 default   # as devices.expect of the configuration says",
		RunE: func(cmd *cobra.Command, args []string) error {
			every := args[1]
			if every == "default" {
				every = ""
			}
			return f.change(cmd, request{method: http.MethodPatch, path: "/devices/" + escape(args[0]), body: api.DevicePatch{ExpectEvery: &every}},
				"device %s: telemetry expected: %s\n", args[0], args[1])
		},
	}
}

func devicesDelete(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "delete DEVICE", Short: "Delete a device: its session closes, its waiting commands are cancelled", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.change(cmd, request{method: http.MethodDelete, path: "/devices/" + escape(args[0])}, "device %s deleted\n", args[0])
		},
	}
}

// change makes a call whose answer is only printed as JSON.
func (f *clientFlags) change(cmd *cobra.Command, q request, told string, args ...any) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	_, raw, err := c.do(cmd.Context(), q, nil)
	if err != nil || c.json {
		return printRaw(cmd, raw, err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), told, args...)
	return nil
}

func devicesToken(f *clientFlags) *cobra.Command {
	var ttl string
	var revoke bool
	cmd := &cobra.Command{Use: "token DEVICE", Short: "Mint a token, or revoke all minted before now", Args: exactArgs(1)}
	cmd.Flags().StringVar(&ttl, "ttl", "", "how long it is good, as 24h")
	cmd.Flags().BoolVar(&revoke, "revoke", false, "revoke all tokens instead")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path := "/devices/" + escape(args[0]) + "/tokens"
		if revoke {
			return f.change(cmd, request{method: http.MethodDelete, path: path}, "tokens of %s revoked\n", args[0])
		}
		return f.mint(cmd, path, map[string]string{"ttl": ttl})
	}
	return cmd
}

// mint makes a token and prints it alone, so that it can be piped.
func (f *clientFlags) mint(cmd *cobra.Command, path string, body map[string]string) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	for k, v := range body {
		if v == "" {
			delete(body, k)
		}
	}
	var minted struct {
		Token   string `json:"token"`
		Expires int64  `json:"expires"`
	}
	_, raw, err := c.do(cmd.Context(), request{method: http.MethodPost, path: path, body: body}, &minted)
	if err != nil || c.json {
		return printRaw(cmd, raw, err)
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "good until", moment(minted.Expires))
	fmt.Fprintln(cmd.OutOrStdout(), minted.Token)
	return nil
}

func devicesKeys(f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "Add and remove public keys of a device", Args: exactArgs(0)}
	cmd.AddCommand(&cobra.Command{
		Use: "add DEVICE KID FILE", Short: "Add a public key from a PEM file", Args: exactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			pem, err := os.ReadFile(args[2])
			if err != nil {
				return usage("read key: %w", err)
			}
			body := api.NewKey{KID: args[1], PublicKey: string(pem)}
			return f.change(cmd, request{method: http.MethodPost, path: "/devices/" + escape(args[0]) + "/keys", body: body}, "key %s added to %s\n", args[1], args[0])
		},
	}, &cobra.Command{
		Use: "remove DEVICE KID", Short: "Remove a public key", Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.change(cmd, request{method: http.MethodDelete, path: "/devices/" + escape(args[0]) + "/keys/" + escape(args[1])}, "key %s removed from %s\n", args[1], args[0])
		},
	})
	return cmd
}
