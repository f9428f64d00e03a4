package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sort"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/commands/api"
)

const (
	tailQuiet      = 60 * time.Second // without a frame or ping the link is dead
	tailFirstRetry = 500 * time.Millisecond
	tailLastRetry  = 15 * time.Second
)

func newTailCommand() *cobra.Command {
	var events string
	var count int
	cmd := &cobra.Command{
		Use: "tail [DEVICE ...]", Short: "Follow live events of some or all devices", Args: atLeast(0),
		Long: "Tail prints presence, telemetry, command and state events as they come. When the link breaks it says so and\nconnects again; events meanwhile are not shown.",
	}
	f := addClientFlags(cmd)
	cmd.Flags().StringVar(&events, "events", "presence,telemetry,command,state", "kinds of events, joined by commas (of named devices also trace)")
	cmd.Flags().IntVarP(&count, "count", "n", 0, "stop after so many lines")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		if len(args) == 0 {
			args = []string{"*"}
		}
		t := &tail{client: c, cmd: cmd, left: count, bounded: count > 0}
		t.subscribe = map[string]any{"subscribe": map[string]any{"devices": args, "events": strings.Split(events, ",")}}
		return t.run(cmd.Context())
	}
	return cmd
}

// tail follows the live socket.
type tail struct {
	client    *client
	cmd       *cobra.Command
	subscribe map[string]any
	left      int
	bounded   bool
	up        bool
}

// errEnough ends a tail that has shown what was asked for.
var errEnough = errors.New("enough")

func (t *tail) run(ctx context.Context) error {
	retry := tailFirstRetry
	for {
		err := t.follow(ctx)
		if errors.Is(err, errEnough) || ctx.Err() != nil {
			return nil
		}
		if exit := (*exitError)(nil); errors.As(err, &exit) && (exit.code != exitUnreachable || !t.up) {
			return err
		}
		if t.up {
			t.up, retry = false, tailFirstRetry
		}
		wait := retry/2 + rand.N(retry/2)
		fmt.Fprintf(t.cmd.ErrOrStderr(), "link lost: %v; again in %s\n", err, wait.Round(time.Millisecond))
		retry = min(2*retry, tailLastRetry)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		t.up = true // from here on an unreachable hub is waited for
	}
}

// follow prints events until the link ends.
func (t *tail) follow(ctx context.Context) error {
	conn, err := t.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	conn.SetReadLimit(16 << 20)
	alive := func() error { return conn.SetReadDeadline(time.Now().Add(tailQuiet)) }
	answer := conn.PingHandler()
	conn.SetPingHandler(func(payload string) error { return errors.Join(alive(), answer(payload)) })
	if err := conn.WriteJSON(t.subscribe); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	for {
		if err := alive(); err != nil {
			return err
		}
		_, data, err := conn.ReadMessage()
		if websocket.IsCloseError(err, 4401) {
			return &exitError{exitNotAllowed, errors.New("the token or operator has ended")}
		}
		if err != nil {
			return err
		}
		if err := t.show(data); err != nil {
			return err
		}
	}
}

func (t *tail) dial(ctx context.Context) (*websocket.Conn, error) {
	u := *t.client.base.JoinPath("api", "v1", "live")
	u.Scheme = strings.Replace(u.Scheme, "http", "ws", 1)
	d := websocket.Dialer{TLSClientConfig: t.client.tls, Subprotocols: []string{api.LiveProtocol}, HandshakeTimeout: 10 * time.Second, Proxy: http.ProxyFromEnvironment}
	conn, resp, err := d.DialContext(ctx, u.String(), http.Header{"Authorization": {"Bearer " + t.client.token}})
	switch {
	case err == nil:
		return conn, nil
	case resp == nil:
		return nil, t.client.unreachable(err)
	}
	defer resp.Body.Close()
	raw := make([]byte, 1024) // the dialer keeps no more of a refusal
	n, _ := resp.Body.Read(raw)
	if resp.StatusCode >= http.StatusInternalServerError {
		return nil, &exitError{exitUnreachable, hubRefusal(resp.StatusCode, raw[:n])}
	}
	return nil, hubRefusal(resp.StatusCode, raw[:n])
}

// tailEvent is what any event may hold.
type tailEvent struct {
	Event   string
	Device  string
	Status  string
	Cause   string
	Since   int64
	Silent  bool
	Flaps   int
	Points  []api.Point
	Command api.Command
	Dropped int64
	Code    string
	Message string

	SilentSince int64 `json:"silent_since"`
	Conflict    bool
	Addresses   []string
	Unknown     []string
}

// show prints one event.
func (t *tail) show(data []byte) error {
	var e tailEvent
	if err := json.Unmarshal(data, &e); err != nil {
		return fmt.Errorf("read event: %w", err)
	}
	lines := 1
	switch {
	case e.Event == "subscribed":
		t.up = true
		if len(e.Unknown) > 0 {
			return &exitError{exitFailed, fmt.Errorf("there is no such device: %q\n%s", e.Unknown, hintFor("device_not_found", ""))}
		}
		return nil
	case e.Event == "error":
		return usage("%s (%s)", e.Message, e.Code)
	case t.client.json:
		fmt.Fprintln(t.cmd.OutOrStdout(), string(data))
	case e.Event == "gap":
		fmt.Fprintf(t.cmd.ErrOrStderr(), "%d events lost: this terminal takes them too slowly\n", e.Dropped)
		return nil
	case e.Event == "trace":
		var f api.TraceFrame
		if err := json.Unmarshal(data, &f); err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
		t.frame(f, e.Dropped)
	default:
		if e.Event == "telemetry" { // it may hold several points
			if t.bounded {
				e.Points = e.Points[:min(len(e.Points), t.left)]
			}
			lines = len(e.Points)
		}
		t.line(&e, data)
	}
	if t.left -= lines; t.bounded && t.left <= 0 {
		return errEnough
	}
	return nil
}

// line prints an event for a human, a line for each of its points.
func (t *tail) line(e *tailEvent, data []byte) {
	out, now := t.cmd.OutOrStdout(), clockTime(time.Now().UnixMilli())
	switch e.Event {
	case "telemetry":
		for _, p := range e.Points {
			fmt.Fprintln(out, clockTime(p.Time), plain(e.Device), plain(p.Measurement), fields(p))
		}
	case "presence":
		line := []any{clockTime(e.Since), plain(e.Device), plain(e.Status), plain(e.Cause)}
		if e.Silent {
			line = append(line, "silent since "+clockTime(e.SilentSince))
		}
		if e.Conflict {
			line = append(line, "in conflict")
		}
		fmt.Fprintln(out, line...)
	case "identity_conflict":
		fmt.Fprintln(out, clockTime(e.Since), plain(e.Device), "identity conflict:", e.Flaps, "sessions replaced each other, from", plain(strings.Join(e.Addresses, " and ")))
	case "command":
		fmt.Fprintln(out, now, plain(e.Command.Device), "command", plain(e.Command.Name), e.Command.ID, stateOf(e.Command), e.Command.Evidence)
	default:
		fmt.Fprintln(out, now, plain(e.Device), plain(e.Event), plain(string(data)))
	}
}

func fields(p api.Point) string {
	out := make([]string, 0, len(p.Fields)+len(p.Tags))
	for k, v := range p.Fields {
		out = append(out, plain(k)+"="+number(v))
	}
	sort.Strings(out)
	if tags := pairs(p.Tags); tags != "" {
		out = append(out, "{"+plain(tags)+"}")
	}
	return strings.Join(out, " ")
}
