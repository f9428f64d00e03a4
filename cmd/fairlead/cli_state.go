package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/commands/api"
)

func newStateCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "state", Short: "What a device shall be, what it says it is, and where the two differ", Args: exactArgs(0)}
	f := addClientFlags(cmd)
	cmd.AddCommand(stateGet(f), stateSet(f))
	return cmd
}

func stateGet(f *clientFlags) *cobra.Command {
	return &cobra.Command{Use: "get DEVICE", Short: "Show desired beside reported state; * marks what differs", Args: exactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		var s api.TwinState
		raw, err := c.get(cmd.Context(), "/devices/"+escape(args[0])+"/state", nil, &s)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		return printState(cmd, s)
	}}
}

func stateSet(f *clientFlags) *cobra.Command {
	var patch string
	var version int64
	cmd := &cobra.Command{
		Use: "set DEVICE [key=value ...]", Short: "Change the desired state of a device",
		Long: "Set merges into the desired state. A key may be a path, as led.red=3. A value that reads as JSON is JSON, any other is\n" +
			"text; null removes the key. The device gets the whole document now, or when it comes on line.",
		Example: "  fairlead state set pump-7 setpoint=21.5 mode=eco\n  fairlead state set pump-7 led.red=null --version 4",
		Args:    atLeast(1),
	}
	cmd.Flags().StringVar(&patch, "patch", "", "changes as one JSON merge patch")
	cmd.Flags().Int64Var(&version, "version", -1, "only if the desired state has this version")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		body, err := statePatch(patch, args[1:])
		if err != nil {
			return err
		}
		q := request{method: http.MethodPatch, path: "/devices/" + escape(args[0]) + "/state/desired", body: body}
		if version >= 0 {
			q.header = http.Header{"If-Match": {strconv.Quote(strconv.FormatInt(version, 10))}}
		}
		var s api.TwinState
		_, raw, err := c.do(cmd.Context(), q, &s)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		return printState(cmd, s)
	}
	return cmd
}

// statePatch makes a merge patch of key=value words, over a whole one.
func statePatch(whole string, words []string) (map[string]any, error) {
	patch := map[string]any{}
	if whole != "" {
		if err := json.Unmarshal([]byte(whole), &patch); err != nil || patch == nil {
			return nil, usage("--patch is not a JSON object")
		}
	}
	for _, word := range words {
		path, value, ok := strings.Cut(word, "=")
		if !ok {
			return nil, usage("%q: want key=value", word)
		}
		if err := setPath(patch, strings.Split(path, "."), stateValue(value)); err != nil {
			return nil, err
		}
	}
	if len(patch) == 0 {
		return nil, usage("nothing to set: give key=value or --patch")
	}
	return patch, nil
}

// stateValue keeps a value as it is written if it is JSON: 21.50 stays 21.50.
func stateValue(text string) any {
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	return text
}

func setPath(doc map[string]any, path []string, value any) error {
	for i, key := range path {
		if key == "" {
			return usage("%q: a part of the key is empty", strings.Join(path, "."))
		}
		if i == len(path)-1 {
			doc[key] = value
			return nil
		}
		inner, ok := doc[key].(map[string]any)
		if !ok {
			if _, has := doc[key]; has {
				return usage("%s is given twice, once as an object", key)
			}
			inner = map[string]any{}
			doc[key] = inner
		}
		doc = inner
	}
	return nil
}

// printState prints both documents, one line for each value.
func printState(cmd *cobra.Command, s api.TwinState) error {
	desired, reported, differs := map[string]string{}, map[string]string{}, map[string]string{}
	for _, d := range []struct {
		doc  json.RawMessage
		into map[string]string
	}{{s.Desired, desired}, {s.Reported, reported}, {s.Difference, differs}} {
		if err := leaves("", d.doc, d.into); err != nil {
			return fmt.Errorf("read state: %w", err)
		}
	}
	keys := make([]string, 0, len(desired)+len(reported))
	for k := range desired {
		keys = append(keys, k)
	}
	for k := range reported {
		if _, both := desired[k]; !both {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	t := newTable(cmd.OutOrStdout(), "KEY", fmt.Sprintf("DESIRED v%d", s.DesiredVersion), fmt.Sprintf("REPORTED v%d", s.ReportedVersion), "DIFFERS")
	for _, k := range keys {
		mark := ""
		if _, ok := differs[k]; ok {
			mark = "*"
		}
		t.row(k, desired[k], reported[k], mark)
	}
	return t.flush()
}

// leaves finds the values of a document by their paths.
func leaves(path string, doc json.RawMessage, into map[string]string) error {
	var inner map[string]json.RawMessage
	if len(doc) == 0 || doc[0] != '{' {
		into[path] = string(doc)
		return nil
	}
	if err := json.Unmarshal(doc, &inner); err != nil {
		return err
	}
	if len(inner) == 0 && path != "" {
		into[path] = "{}"
	}
	for k, v := range inner {
		if path != "" {
			k = path + "." + k
		}
		if err := leaves(k, v, into); err != nil {
			return err
		}
	}
	return nil
}
