package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/commands/api"
)

func newKeysCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "The keys that the hub signs tokens with", Args: exactArgs(0)}
	f := addClientFlags(cmd)
	cmd.AddCommand(keysList(f), keysRotate(f), keysRemove(f))
	return cmd
}

func keysList(f *clientFlags) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the keys", Args: exactArgs(0), RunE: func(cmd *cobra.Command, _ []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		var list struct {
			Keys []api.HubKey `json:"keys"`
		}
		raw, err := c.get(cmd.Context(), "/keys", nil, &list)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		t := newTable(cmd.OutOrStdout(), "KID", "TOKENS OF", "ALG", "MADE", "STATE")
		for _, k := range list.Keys {
			state := "verifies"
			if k.Mints {
				state = "signs"
			}
			t.row(k.KID, k.Kind+"s", k.Alg, moment(k.Created), state)
		}
		return t.flush()
	}}
}

func keysRotate(f *clientFlags) *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use: "rotate", Short: "Make a new key that signs from now on; tokens signed before stay good", Args: exactArgs(0),
		Long: `Make a new key that signs from now on, on every node. Tokens that were signed before stay good until they expire.
To end them earlier, remove the key that signed them: fairlead keys remove KID.`,
	}
	cmd.Flags().StringVar(&kind, "kind", api.DeviceKeys, "whose tokens: device or operator")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		var made api.HubKey
		_, raw, err := c.do(cmd.Context(), request{method: http.MethodPost, path: "/keys", body: map[string]string{"kind": kind}}, &made)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "new tokens of %ss are signed with:\n", made.Kind)
		fmt.Fprintln(cmd.OutOrStdout(), made.KID)
		return nil
	}
	return cmd
}

func keysRemove(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "remove KID", Short: "Remove a key; the tokens that it signed are refused, and their sessions end", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.change(cmd, request{method: http.MethodDelete, path: "/keys/" + escape(args[0])}, "key %s removed\n", args[0])
		},
	}
}
