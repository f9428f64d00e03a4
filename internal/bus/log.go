package bus

import (
	"fmt"
	"log/slog"
	"strings"
)

// natsLog hands the embedded server's log to ours. Its notices are our debug.
type natsLog struct {
	log     *slog.Logger
	damaged func() // the server could not write
}

func (l *natsLog) Noticef(f string, v ...any) { l.log.Debug("nats", "text", fmt.Sprintf(f, v...)) }
func (l *natsLog) Warnf(f string, v ...any)   { l.log.Warn("nats", "text", fmt.Sprintf(f, v...)) }

// Errorf also looks for the one sign that JetStream gives when it cannot write: it does not answer that publish, nor any
// later one to the stream, and otherwise goes on as if nothing were [nats-server stream.go, processJetStreamMsg].
func (l *natsLog) Errorf(f string, v ...any) {
	if strings.HasPrefix(f, "JetStream failed to store a msg") {
		l.damaged()
	}
	l.log.Error("nats", "text", fmt.Sprintf(f, v...))
}

func (l *natsLog) Fatalf(f string, v ...any) { l.log.Error("nats", "text", fmt.Sprintf(f, v...)) }
func (l *natsLog) Debugf(string, ...any)     {}
func (l *natsLog) Tracef(string, ...any)     {}
