package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/fairlead-hub/fairlead/internal/load"
)

// chain is a Mosquitto and a Telegraf that carries what comes there to an influxd.
type chain struct {
	addr                string // of the broker
	mosquitto, telegraf *exec.Cmd
	log                 *lastWords // of both
}

// mosquittoConf is the broker as fast as it goes: nothing is kept on disk, and no queue is bounded.
const mosquittoConf = `listener %s 127.0.0.1
allow_anonymous true
max_inflight_messages 0
max_queued_messages 0
persistence false
log_type error
log_type warning
`

// telegrafConf takes as much at once as bench.md's reference did; the defaults are slower. What it adds to a point by
// default (host, topic) is left out, so that InfluxDB stores the same points as from the hub.
const telegrafConf = `[agent]
  interval = "1s"
  flush_interval = "1s"
  metric_batch_size = 5000
  metric_buffer_limit = 1000000
  omit_hostname = true
  quiet = true
[[inputs.mqtt_consumer]]
  servers = ["tcp://%s"]
  topics = ["telemetry/#"]
  topic_tag = ""
  qos = 1
  client_id = "telegraf"
  persistent_session = true
  max_undelivered_messages = 100000
  data_format = "influx"
[[outputs.influxdb_v2]]
  urls = [%q]
  organization = ""
  bucket = %q
  content_encoding = "gzip"
`

// startChain starts both, and returns once a message that is published arrives in the store.
func startChain(ctx context.Context, dir string, store *influxd) (c *chain, err error) {
	mosquitto, err := goTool("mosquitto", "apt-get install mosquitto")
	if err != nil {
		return nil, err
	}
	telegraf, err := goTool("telegraf", ".ci/telegraf installs it")
	if err != nil {
		return nil, err
	}
	addrs, err := freeAddrs(1)
	if err != nil {
		return nil, fmt.Errorf("start mosquitto: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("start mosquitto: %w", err)
	}
	c = &chain{addr: addrs[0], log: &lastWords{}}
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	_, port, err := net.SplitHostPort(c.addr)
	if err != nil {
		return c, fmt.Errorf("start mosquitto: %w", err)
	}
	broker := fmt.Sprintf(mosquittoConf, port)
	if os.Geteuid() == 0 {
		broker += "user root\n"
	}
	if c.mosquitto, err = c.start(mosquitto, filepath.Join(dir, "mosquitto.conf"), broker, "-c"); err != nil {
		return c, err
	}
	if err := c.listens(ctx); err != nil {
		return c, err
	}
	conf := fmt.Sprintf(telegrafConf, c.addr, store.url, influxDatabase)
	if c.telegraf, err = c.start(telegraf, filepath.Join(dir, "telegraf.conf"), conf, "--config"); err != nil {
		return c, err
	}
	return c, c.carries(ctx, store)
}

// start runs a program with a configuration file.
func (c *chain) start(program, file, conf, flag string) (*exec.Cmd, error) {
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	cmd := exec.Command(program, flag, file)
	cmd.Stdout, cmd.Stderr = c.log, c.log
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return cmd, nil
}

func (c *chain) stop() {
	for _, cmd := range []*exec.Cmd{c.telegraf, c.mosquitto} {
		if cmd != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // says that it was killed
		}
	}
}

// probe is a message that is no point of the load.
const probe = "probe n=1"

func (c *chain) listens(ctx context.Context) error {
	return c.until(ctx, func() (bool, error) {
		err := load.Publish(ctx, c.addr, "probe", probe)
		return err == nil, err
	})
}

func (c *chain) carries(ctx context.Context, store *influxd) error {
	err := c.until(ctx, func() (bool, error) {
		if n, err := store.written(ctx); err != nil || n > 0 {
			return err == nil, err
		}
		return false, load.Publish(ctx, c.addr, "telemetry/probe", probe)
	})
	if err != nil {
		return err
	}
	// Those that came before the session was there went nowhere; those that follow must not be counted as load.
	for last, same := int64(0), 0; same < 3; time.Sleep(time.Second) {
		n, err := store.written(ctx)
		if err != nil {
			return err
		}
		if same++; n != last {
			last, same = n, 0
		}
	}
	return nil
}

// until tries until it is so, or it takes too long.
func (c *chain) until(ctx context.Context, so func() (bool, error)) (err error) {
	for end := time.Now().Add(startTimeout); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		var ok bool
		if ok, err = so(); ok {
			return nil
		}
	}
	return errors.Join(fmt.Errorf("mosquitto and telegraf do not carry a message: %s", c.log), err, ctx.Err())
}
