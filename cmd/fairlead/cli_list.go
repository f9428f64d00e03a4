package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"
)

// listing is a list of the API, page by page, as a table.
type listing[T any] struct {
	path  string // below /api/v1
	items string // what the list is called in the answer
	head  []string
	row   func(T) []string
}

// paging are the flags that every list has.
type paging struct {
	limit  int
	cursor string
}

func addPaging(cmd *cobra.Command, limit int) *paging {
	p := &paging{}
	cmd.Flags().IntVar(&p.limit, "limit", limit, "how many")
	cmd.Flags().StringVar(&p.cursor, "cursor", "", "where the last list ended")
	return p
}

// print asks for one page and prints it. Of pick, which narrows the list, empty values are left out.
func (l listing[T]) print(cmd *cobra.Command, f *clientFlags, p *paging, pick map[string]string) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	q := url.Values{"limit": {strconv.Itoa(p.limit)}}
	if p.cursor != "" {
		q.Set("cursor", p.cursor)
	}
	for name, value := range pick {
		if value != "" {
			q.Set(name, value)
		}
	}
	var page map[string]json.RawMessage
	raw, err := c.get(cmd.Context(), l.path, q, &page)
	if err != nil || c.json {
		return printRaw(cmd, raw, err)
	}
	var items []T
	if err := json.Unmarshal(page[l.items], &items); err != nil {
		return fmt.Errorf("read %s: %w", l.items, err)
	}
	t := newTable(cmd.OutOrStdout(), l.head...)
	for _, item := range items {
		t.row(l.row(item)...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	var next string
	if there := page["cursor"]; there != nil {
		if err := json.Unmarshal(there, &next); err != nil {
			return fmt.Errorf("read cursor: %w", err)
		}
	}
	if next != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "there are more: --cursor %s\n", next)
	}
	return nil
}
