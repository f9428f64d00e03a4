package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"
)

// crew are operators who ask for all kinds of commands, cancel some, and do not mind that hubs die under them.
type crew struct {
	apis    func() []string // where they may ask
	token   string
	devices []string
	history *history
	client  *http.Client
	most    int64 // requests

	n atomic.Int64
}

func newCrew(h *history, token string, devices []string, apis func() []string, most int) *crew {
	return &crew{
		apis: apis, token: token, devices: devices, history: h, most: int64(most),
		client: &http.Client{Timeout: waitBound, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
}

// run asks until the crew has asked for all, or ctx ends.
func (c *crew) run(ctx context.Context, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 11))
	for ctx.Err() == nil {
		n := c.n.Add(1)
		if n > c.most {
			return
		}
		c.ask(ctx, rnd, int(n))
	}
}

// done is how many requests were begun.
func (c *crew) done() int { return int(min(c.n.Load(), c.most)) }

// order is the body of a request, as luck wants it.
func (c *crew) order(rnd *rand.Rand, n int) map[string]any {
	ms := func(least, most int) string { return fmt.Sprintf("%dms", least+rnd.IntN(most-least)) }
	b := map[string]any{"name": "set", "params": map[string]int{"n": n}, "ttl": ms(200, 4000), "timeout": ms(100, 1500)}
	switch rnd.IntN(12) {
	case 0:
		b["ttl"] = "0"
	case 1, 2:
		b["not_before"] = time.Now().Add(time.Duration(rnd.IntN(700)) * time.Millisecond).UnixMilli()
	case 3, 4:
		b["retry"] = map[string]any{"attempts": 2 + rnd.IntN(2), "delay": ms(1, 300)}
	}
	if rnd.IntN(3) == 0 {
		b["priority"] = rnd.IntN(10)
	}
	return b
}

// ask makes one request, with a key again and again until the hub's answer is sure.
func (c *crew) ask(ctx context.Context, rnd *rand.Rand, n int) {
	device := c.devices[rnd.IntN(len(c.devices))]
	body := c.order(rnd, n)
	key := ""
	if rnd.IntN(5) < 2 {
		key = fmt.Sprintf("key-%d", n)
	}
	a := &asked{device: device, keyed: key != ""}
	c.history.mu.Lock()
	c.history.asked[n] = a
	c.history.mu.Unlock()
	path := "/devices/" + device + "/commands?wait=" + []string{"0s", "50ms", "1s"}[rnd.IntN(3)]
	for {
		c.history.mu.Lock()
		a.sent++
		c.history.mu.Unlock()
		status, made, code := c.call(ctx, rnd, http.MethodPost, path, key, body)
		switch {
		case made.ID != "":
			c.made(a, made)
			c.after(ctx, rnd, path, key, body, a, made)
			return
		case status == 0 && key != "" && ctx.Err() == nil: // nobody knows: with a key one may ask again
			pauseFor(ctx, 20*time.Millisecond)
		default:
			c.refused(status, code)
			if status == http.StatusTooManyRequests {
				pauseFor(ctx, 5*time.Millisecond)
			}
			return
		}
	}
}

// after: some look again with their key, some cancel, some wait for the end.
func (c *crew) after(ctx context.Context, rnd *rand.Rand, path, key string, body map[string]any, a *asked, made lived) {
	if key != "" && rnd.IntN(3) == 0 {
		if _, again, _ := c.call(ctx, rnd, http.MethodPost, path, key, body); again.ID != "" {
			c.made(a, again)
		}
		body["timeout"] = "59s"
		if status, _, code := c.call(ctx, rnd, http.MethodPost, path, key, body); status != 0 && code != "idempotency_key_reused" {
			c.refused(status, "key taken for another request: "+code)
		}
	}
	switch rnd.IntN(8) {
	case 0:
		if status, got, code := c.call(ctx, rnd, http.MethodDelete, "/commands/"+made.ID, "", nil); got.ID != "" {
			c.made(a, got)
		} else {
			c.refused(status, "cancel: "+code)
		}
	case 1, 2:
		if _, got, _ := c.call(ctx, rnd, http.MethodGet, "/commands/"+made.ID+"?wait=2s", "", nil); got.ID != "" {
			c.made(a, got)
		}
	}
}

// made notes what an operator was told.
func (c *crew) made(a *asked, got lived) {
	c.history.mu.Lock()
	defer c.history.mu.Unlock()
	if !slices.Contains(a.ids, got.ID) {
		a.ids = append(a.ids, got.ID)
	}
	if among(got.State, finalStates) {
		c.history.told[got.ID] = append(c.history.told[got.ID], got.State)
	}
}

func (c *crew) refused(status int, code string) {
	c.history.mu.Lock()
	defer c.history.mu.Unlock()
	c.history.refusals[fmt.Sprintf("%d %s", status, code)]++
}

// call asks any hub. Status 0 is no answer.
func (c *crew) call(ctx context.Context, rnd *rand.Rand, method, path, key string, body any) (status int, got lived, code string) {
	apis := c.apis()
	raw, status, err := c.read(ctx, apis[rnd.IntN(len(apis))], method, path, key, body)
	if err != nil {
		return 0, got, ""
	}
	if status/100 == 2 {
		if json.Unmarshal(raw, &got) != nil {
			return status, lived{}, "not JSON"
		}
		return status, got, ""
	}
	var p problem
	_ = json.Unmarshal(raw, &p) // without a code the status speaks
	return status, got, p.Code
}

func (c *crew) read(ctx context.Context, api, method, path, key string, body any) (raw []byte, status int, err error) {
	var sent bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			return nil, 0, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, api+"/api/v1"+path, &sent)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := c.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer res.Body.Close()
	if raw, err = io.ReadAll(res.Body); err != nil {
		return nil, 0, err
	}
	return raw, res.StatusCode, nil
}

// all reads every command that a hub knows.
func (c *crew) all(ctx context.Context, api string) (ids []string, err error) {
	for cursor := ""; ; {
		raw, status, err := c.read(ctx, api, http.MethodGet, "/commands?limit=1000&cursor="+url.QueryEscape(cursor), "", nil)
		if err != nil || status != http.StatusOK {
			return nil, fmt.Errorf("list commands: %d %s %w", status, raw, err)
		}
		var page struct {
			Commands []struct{ ID string }
			Cursor   string
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return nil, err
		}
		for _, m := range page.Commands {
			ids = append(ids, m.ID)
		}
		if cursor = page.Cursor; cursor == "" {
			return ids, nil
		}
	}
}

var errOpen = errors.New("does not end")

// ended reads a command once it has ended.
func (c *crew) ended(ctx context.Context, api, id string) (got lived, raw []byte, err error) {
	for range 3 {
		raw, status, err := c.read(ctx, api, http.MethodGet, "/commands/"+id+"?wait=20s", "", nil)
		if err != nil || status != http.StatusOK {
			return got, raw, fmt.Errorf("command %s: %d %s %w", id, status, raw, err)
		}
		got = lived{}
		if err := json.Unmarshal(raw, &got); err != nil {
			return got, raw, err
		}
		if among(got.State, finalStates) {
			return got, raw, nil
		}
	}
	return got, raw, fmt.Errorf("command %s: %w, it is %s", id, errOpen, got.State)
}

func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
