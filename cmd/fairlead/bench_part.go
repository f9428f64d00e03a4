package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/internal/load"
)

// The parts of a benchmark run in processes of their own, so that each one's processor time can be told apart: this
// program started again. A part reads what to do from its standard input, answers in JSON lines, and ends when its
// input does, also when whoever started it was killed.
var benchParts = map[string]func(ctx context.Context, in *json.Decoder, out *json.Encoder) error{
	"hub":    runHubPart,
	"load":   runLoadPart,
	"orders": runOrdersPart,
	"echo":   runEchoPart,
	"crowd":  runCrowdPart,
	"nats":   runNATSPart,
}

func newBenchPartCommand() *cobra.Command {
	return &cobra.Command{
		Use: "part NAME", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			run, ok := benchParts[args[0]]
			if !ok {
				return fmt.Errorf("no part %q", args[0])
			}
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			in := json.NewDecoder(cmd.InOrStdin())
			return run(context.WithValue(ctx, endKey{}, cancel), in, json.NewEncoder(cmd.OutOrStdout()))
		},
	}
}

// endKey carries how a part is ended.
type endKey struct{}

// readSpec reads what to do, and from then on waits for the end. What comes before that is told to more.
func readSpec(ctx context.Context, in *json.Decoder, spec any, more func()) error {
	if err := in.Decode(spec); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	go func() { // ends with the input, and the process with it
		var word json.RawMessage
		for in.Decode(&word) == nil {
			more()
		}
		ctx.Value(endKey{}).(context.CancelFunc)()
	}()
	return nil
}

// settling is more that a server expects: to give back the memory that it does not need.
func settling(out *json.Encoder) func() {
	return func() {
		debug.FreeOSMemory()
		_ = out.Encode(struct{}{}) // who asked may be gone
	}
}

// nothing is more that a part does not expect.
func nothing() {}

// runLoadPart takes each word on its input for the begin of the load's next phase.
func runLoadPart(ctx context.Context, in *json.Decoder, out *json.Encoder) error {
	var spec load.Spec
	phase := new(atomic.Int32)
	if err := readSpec(ctx, in, &spec, func() { phase.Add(1) }); err != nil {
		return err
	}
	spec.Phase = phase
	r, err := load.Run(ctx, spec)
	return errors.Join(err, out.Encode(r))
}

// part is a part at work.
type part struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	in    *json.Encoder
	out   *json.Decoder
	log   *lastWords
}

// lastWords keeps the end of what a part prints to its standard error.
type lastWords struct {
	mu   sync.Mutex
	text []byte // guarded by mu
}

const tailBytes = 4 << 10

// Write takes more text.
func (t *lastWords) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if n := len(t.text); n > tailBytes {
		t.text = t.text[n-tailBytes:]
	}
	return len(p), nil
}

// String is what is kept.
func (t *lastWords) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}

// startPart starts a part and tells it what to do. By is a command that starts it, or nothing.
func startPart(name string, spec any, by ...string) (*part, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	words := append(by, self, "bench", "part", name)
	p := &part{name: name, cmd: exec.Command(words[0], words[1:]...), log: &lastWords{}}
	p.cmd.Stderr = p.log
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.out = json.NewDecoder(stdout)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.in = json.NewEncoder(p.stdin)
	if err := p.in.Encode(spec); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w: %s", name, err, p.log), p.kill())
	}
	return p, nil
}

// answer reads the part's next answer.
func (p *part) answer(into any) error {
	if err := p.out.Decode(into); err != nil {
		return fmt.Errorf("%s: %w: %s", p.name, err, p.log)
	}
	return nil
}

const partStop = 90 * time.Second

// ask tells a part more to do and reads its answer.
func (p *part) ask(what, into any) error {
	if err := p.in.Encode(what); err != nil {
		return fmt.Errorf("%s: %w: %s", p.name, err, p.log)
	}
	return p.answer(into)
}

// settle lets a server collect its garbage and give memory back.
func (p *part) settle() error { return p.ask(struct{}{}, new(struct{})) }

// next tells a load that its next phase begins.
func (p *part) next() error { return p.in.Encode(struct{}{}) }

// stop lets the part end in order.
func (p *part) stop() error {
	_ = p.stdin.Close()
	kill := time.AfterFunc(partStop, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", p.name, err, p.log)
	}
	return nil
}

// kill ends the part as a crash would.
func (p *part) kill() error {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // says that it was killed, and closes the pipes
	return nil
}
