package broker

import (
	"context"
	"log/slog"
	"strings"
)

// quietHandler brings mochi's log into the hub's: everything short of an error is its everyday life and goes to debug,
// and whole packets are left out, because they hold payloads and passwords.
type quietHandler struct{ slog.Handler }

func quiet(log *slog.Logger) *slog.Logger { return slog.New(quietHandler{log.Handler()}) }

// Enabled asks for the level the record will have.
func (h quietHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.Handler.Enabled(ctx, demoted(level))
}

// Handle renames mochi's keys to the hub's.
func (h quietHandler) Handle(ctx context.Context, r slog.Record) error {
	message := r.Message
	if message == "" {
		message = "mqtt client"
	}
	out := slog.NewRecord(r.Time, demoted(r.Level), message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "pk", "packet", "will":
			return true
		case "error":
			a.Key = "err"
		case "client":
			a.Key, a.Value = "client_id", slog.StringValue(strings.ReplaceAll(a.Value.String(), sessionMark, "/"))
		}
		out.AddAttrs(a)
		return true
	})
	return h.Handler.Handle(ctx, out)
}

// WithAttrs keeps the wrapping.
func (h quietHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quietHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the wrapping.
func (h quietHandler) WithGroup(name string) slog.Handler {
	return quietHandler{h.Handler.WithGroup(name)}
}

func demoted(level slog.Level) slog.Level {
	if level >= slog.LevelError {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}
