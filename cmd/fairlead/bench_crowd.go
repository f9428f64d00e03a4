package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/fairlead-hub/fairlead/internal/load"
)

// crowdAsk is what a crowd is told to do; of what is not zero, the first.
type crowdAsk struct {
	Join  int  `json:"join"` // be so many
	Storm bool `json:"storm"`
}

// crowdAnswer is what became of it.
type crowdAnswer struct {
	load.CrowdReport
	Err string `json:"err"`
}

// crowdGarbage lets a crowd collect its garbage seldom: it stands for many machines, and takes the server's processor.
const crowdGarbage = 800

func runCrowdPart(ctx context.Context, in *json.Decoder, out *json.Encoder) error {
	var spec load.CrowdSpec
	if err := in.Decode(&spec); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	debug.SetGCPercent(crowdGarbage)
	c, err := load.NewCrowd(ctx, spec)
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		var ask crowdAsk
		if err := in.Decode(&ask); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read what to do: %w", err)
		}
		var answer crowdAnswer
		switch {
		case ask.Join > 0:
			answer.CrowdReport, err = c.Join(ask.Join)
		case ask.Storm:
			answer.CrowdReport, err = c.Storm()
		default:
			answer.CrowdReport = c.Report()
		}
		if err != nil {
			answer.Err = err.Error()
		}
		if err := out.Encode(answer); err != nil {
			return err
		}
	}
}

// crowd is a crowd in a process of its own.
type crowd struct{ *part }

func startCrowd(spec load.CrowdSpec) (crowd, error) {
	p, err := startPart("crowd", spec, "nice", "-n", "19")
	return crowd{p}, err
}

func (c crowd) ask(what crowdAsk) (load.CrowdReport, error) {
	var a crowdAnswer
	if err := c.part.ask(what, &a); err != nil {
		return a.CrowdReport, err
	}
	if a.Err != "" {
		return a.CrowdReport, errors.New(a.Err)
	}
	return a.CrowdReport, nil
}
