package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/commands/api"
)

func newTypesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "types", Short: "The types with which fields are stored", Args: exactArgs(0),
		Long: `The first point of a field settles its type (float, integer, boolean or string); others are rejected before their ack,
because InfluxDB would refuse them after it. InfluxDB 1.8 and 2.x keep a type for each shard (a week, by default), InfluxDB 3
for good: a type that is changed here is refused by them while they hold the old one, and its points become dead letters,
which no replay mends because their times stay in the old shard. So set and forget refuse that unless --force is given.`,
	}
	f := addClientFlags(cmd)
	cmd.AddCommand(typesList(f), typesShow(f), typesSet(f), typesForget(f))
	return cmd
}

func typesList(f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "list [MEASUREMENT]", Short: "List types, of one measurement or of all", Args: atMost(1)}
	p := addPaging(cmd, 1000)
	list := listing[api.FieldType]{
		path: "/types", items: "types", head: []string{"MEASUREMENT", "FIELD", "TYPE"},
		row: func(x api.FieldType) []string { return []string{x.Measurement, x.Field, x.Type} },
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return list.print(cmd, f, p, map[string]string{"measurement": strings.Join(args, "")})
	}
	return cmd
}

func typesShow(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "show MEASUREMENT FIELD", Short: "Show a type, beside what InfluxDB holds", Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			var t api.FieldType
			raw, err := c.get(cmd.Context(), typePath(args), nil, &t)
			if err != nil || c.json {
				return printRaw(cmd, raw, err)
			}
			return printType(cmd, t)
		},
	}
}

func typesSet(f *clientFlags) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "set MEASUREMENT FIELD TYPE", Short: "Settle or change a type, for all nodes and at once", Args: exactArgs(3),
		Example: "  fairlead types set env door_count integer",
	}
	cmd.Flags().BoolVar(&force, "force", false, "also while InfluxDB holds another type and refuses points of this one")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		var t api.FieldType
		_, raw, err := c.do(cmd.Context(), request{
			method: http.MethodPatch, path: typePath(args), body: map[string]any{"type": args[2], "force": force},
		}, &t)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		return printType(cmd, t)
	}
	return cmd
}

func typesForget(f *clientFlags) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "forget MEASUREMENT FIELD", Short: "Let the next point settle the type again, as after DROP MEASUREMENT", Args: exactArgs(2),
	}
	cmd.Flags().BoolVar(&force, "force", false, "also while InfluxDB holds the field; the hub's next start then settles that type again")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q := request{method: http.MethodDelete, path: typePath(args)}
		if force {
			q.query = url.Values{"force": {"true"}}
		}
		return f.change(cmd, q, "type of %s.%s forgotten\n", args[0], args[1])
	}
	return cmd
}

func typePath(args []string) string { return "/types/" + escape(args[0]) + "/" + escape(args[1]) }

func printType(cmd *cobra.Command, t api.FieldType) error {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "%s.%s  %s\n", plain(t.Measurement), plain(t.Field), t.Type)
	if len(t.Stored) > 0 {
		fmt.Fprintf(out, "stored as %s\n", plain(strings.Join(t.Stored, ", ")))
	}
	if t.Note != "" {
		fmt.Fprintln(out, plain(t.Note))
	}
	return nil
}
