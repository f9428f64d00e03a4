package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/internal/load"
)

// linkBench measures what it costs to hold devices on the line, and to take them all back at once.
type linkBench struct {
	short   bool
	only    string
	profile string

	out io.Writer
	dir string
}

// linkRound is one part of the benchmark.
type linkRound struct {
	name string
	run  func(context.Context, string) error
}

func newBenchLinkCommand() *cobra.Command {
	b := linkBench{}
	cmd := &cobra.Command{
		Use: "link", Args: exactArgs(0),
		Short: "Memory of idle sessions, a connection storm, and a fleet over several hubs, beside a bare server of the library",
		Long: `Connects devices from processes of their own, over loopback, to hubs in processes of their own, and does the same to a bare
server: gorilla/websocket tuned as the hub is, which checks the same tokens and answers each frame, and does nothing else.
A crowd of devices is niced (19): where devices have processors of their own, they take none from the server.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b.out = cmd.OutOrStdout()
			return b.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&b.short, "short", false, "a round of under a minute, with fewer devices")
	cmd.Flags().StringVar(&b.only, "only", "", "only rounds whose name holds this")
	cmd.Flags().StringVar(&b.profile, "profile", "", "write processor profiles of the hub there, one a round")
	return cmd
}

func (b *linkBench) rounds() []linkRound {
	return []linkRound{
		{"idle plain", func(ctx context.Context, dir string) error { return b.idle(ctx, dir, false) }},
		{"idle tls", func(ctx context.Context, dir string) error { return b.idle(ctx, dir, true) }},
		{"storm plain", func(ctx context.Context, dir string) error { return b.storm(ctx, dir, false) }},
		{"storm tls", func(ctx context.Context, dir string) error { return b.storm(ctx, dir, true) }},
		{"fleet", b.fleet},
	}
}

func (b *linkBench) run(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "fairlead-bench-"); err != nil {
		return fmt.Errorf("bench directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	fmt.Fprintf(b.out, "fairlead %s, %s, %d processors\n", version(), runtime.Version(), runtime.NumCPU())
	for i, r := range b.rounds() {
		if !strings.Contains(r.name, b.only) {
			continue
		}
		fmt.Fprintf(b.out, "\n%s\n", r.name)
		if err := r.run(ctx, filepath.Join(b.dir, fmt.Sprint(i))); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return nil
}

// devices is how many there are in a round of one server.
func (b *linkBench) devices() int {
	if b.short {
		return 2_000
	}
	return 15_000
}

// linkServer is what devices connect to: a hub, or the bare server.
type linkServer struct {
	*part
	name   string
	pid    int
	admin  string
	tokens []string
	target load.Target
}

// sources is how many addresses a crowd connects from, so that none has more connects under way than a hub lets one have.
const sources = 48

// startBare starts a bare server that knows more devices than the crowd's if it checks who they are.
func (b *linkBench) startBare(dir string, useTLS, check bool, more int) (*linkServer, error) {
	spec := echoSpec{ReadBuffer: 512, Welcome: true}
	if useTLS {
		spec.TLSDir = dir + "-bare"
	}
	if check {
		spec.Devices = b.devices() + more
	}
	p, err := startPart("echo", spec)
	if err != nil {
		return nil, err
	}
	var at echoAnswer
	if err := p.answer(&at); err != nil {
		return nil, errors.Join(err, p.kill())
	}
	if !check {
		at.Tokens = make([]string, b.devices()+more)
	}
	n := b.devices()
	return &linkServer{
		part: p, name: "bare", pid: at.PID, admin: at.Admin, tokens: at.Tokens[n:],
		target: load.Target{URL: at.URL, Tokens: at.Tokens[:n], Sources: sources, Lean: true},
	}, nil
}

// startHub starts a hub of which more devices than the crowd's are known.
func (b *linkBench) startHub(round string, spec hubSpec, more int) (*linkServer, error) {
	spec.InfluxURL, spec.Devices = nowhere, b.devices()+more
	if b.profile != "" {
		spec.Profile = filepath.Join(b.profile, strings.ReplaceAll(round, " ", "-")+".pprof")
	}
	p, err := startPart("hub", spec)
	if err != nil {
		return nil, err
	}
	var at hubAnswer
	if err := p.answer(&at); err != nil {
		return nil, errors.Join(err, p.kill())
	}
	n := b.devices()
	return &linkServer{
		part: p, name: "hub", pid: at.PID, admin: at.Admin, tokens: at.Tokens[n:],
		target: load.Target{URL: at.URL, Tokens: at.Tokens[:n], Sources: sources, Lean: true},
	}, nil
}

// end stops a server: in order if it has a profile to write.
func (b *linkBench) end(s *linkServer) error {
	if s.name == "hub" && b.profile != "" {
		return s.stop()
	}
	return s.kill()
}
