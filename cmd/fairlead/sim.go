package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/devices/wire"
	sim "github.com/fairlead-hub/fairlead/firmware-sim"
)

// defaultSimDevices is the size of the fleet if nothing else is asked for.
const defaultSimDevices = 10

// simFlags is what `fairlead sim` was asked to do.
type simFlags struct {
	url, ca, operatorToken, readyFile string

	devices       int
	rate          float64
	prefix, codec string
	models        []string
	faults        string
	seed          uint64
	tokens        string
	ownKeys       bool
	audience      string

	enroll, enrollAlg, keysDir string

	replays             []string
	speed               string
	device, measurement string

	mqtt, mqttUsername, mqttPassword string
	plugs                            int
	plugPeriod                       time.Duration

	duration time.Duration
	verbose  bool
}

func newSimCommand() *cobra.Command {
	var f simFlags
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Simulate devices: a fleet, the replay of CSV files, Tasmota plugs over MQTT",
		Long: `Simulate devices as real ones behave: each has its own token and connection, keeps what it measures until the hub
has acked it, sends it again after a break of the link, and carries out commands.`,
		Example: `  fairlead sim --ready-file ready.json --devices 25 --rate 1
  fairlead sim --ready-file ready.json --replay machine_temperature.csv --speed max
  fairlead sim --url https://hub:8443 --ca ca.pem --devices 100 --faults refuse=5%,drop=2%,delay=3s@20%
  fairlead sim --ready-file ready.json --devices 5 --enroll "$(fairlead enrollments create --devices 5)"
  fairlead sim --mqtt tcp://127.0.0.1:1883 --plugs 3`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("devices") && (len(f.replays) > 0 || f.plugs > 0) {
				f.devices = 0
			}
			if cmd.Flags().Changed("enroll") && f.enroll == "" {
				return usage("--enroll: the secret is empty; fairlead enrollments create prints one")
			}
			if err := f.readReady(); err != nil {
				return err
			}
			if f.operatorToken == "" {
				f.operatorToken = os.Getenv("FAIRLEAD_TOKEN")
			}
			cmd.SilenceUsage = true
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.register(cmd)
	return cmd
}

func (f *simFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.readyFile, "ready-file", os.Getenv(readyVariable), "take addresses and secrets from the ready file of a running hub (also "+readyVariable+")")
	fs.StringVar(&f.url, "url", "", "address of the hub, such as https://127.0.0.1:8443")
	fs.StringVar(&f.ca, "ca", "", "file with the CA certificate of the hub")
	fs.StringVar(&f.operatorToken, "operator-token", "", "token to add the devices with (also FAIRLEAD_TOKEN)")
	fs.StringVar(&f.tokens, "tokens", "", "file with a device id and its token a line, instead of adding devices")
	fs.BoolVar(&f.ownKeys, "own-keys", false, "give each device a key of its own, with which it signs its tokens")
	fs.StringVar(&f.audience, "audience", "fairlead", "audience of tokens signed with own keys")
	fs.StringVar(&f.enroll, "enroll", "", "secret of an enrollment (fairlead enrollments create): each device makes a key and enrols itself")
	fs.StringVar(&f.enrollAlg, "enroll-alg", "ES256", "key of a device that enrols itself: ES256 or EdDSA")
	fs.StringVar(&f.keysDir, "keys-dir", "", "where devices that enrol themselves keep their keys, to be the same devices the next time")

	fs.IntVar(&f.devices, "devices", defaultSimDevices, "number of devices")
	fs.Float64Var(&f.rate, "rate", 1, "points a second of each device")
	fs.StringVar(&f.prefix, "prefix", "", "device ids are PREFIX-1, PREFIX-2 ...; without it the model's name is the prefix")
	fs.StringSliceVar(&f.models, "model", nil, fmt.Sprintf("models, taken in turn (default all: %v)", sim.Models()))
	fs.StringVar(&f.codec, "codec", "json", "encoding of the frames: json or cbor")
	fs.StringVar(&f.faults, "faults", "", "what goes wrong, such as refuse=5%,drop=2%,delay=3s@20%,twice=10%,late=1%,disconnect=5m")
	fs.Uint64Var(&f.seed, "seed", 1, "seed of the signals and faults")

	fs.StringArrayVar(&f.replays, "replay", nil, "CSV file to replay as one device; may be given more than once")
	fs.StringVar(&f.speed, "speed", "1", "factor of the file's own timing, or max for as fast as the hub acks")
	fs.StringVar(&f.device, "device", "", "device id of the replay (default: from the name of the file)")
	fs.StringVar(&f.measurement, "measurement", "", "measurement of the replay (default telemetry)")

	fs.StringVar(&f.mqtt, "mqtt", "", "address of the MQTT broker, such as tcp://127.0.0.1:1883")
	fs.StringVar(&f.mqttUsername, "mqtt-username", "", "user at the MQTT broker")
	fs.StringVar(&f.mqttPassword, "mqtt-password", "", "password at the MQTT broker")
	fs.IntVar(&f.plugs, "plugs", 0, "number of Tasmota plugs over MQTT")
	fs.DurationVar(&f.plugPeriod, "plug-period", 10*time.Second, "time between two readings of a plug")

	fs.DurationVar(&f.duration, "duration", 0, "stop after this time; 0: on a signal, or when the replays are done")
	fs.BoolVarP(&f.verbose, "verbose", "v", false, "log also what concerns a single device only")
}

// readReady fills in from the ready file what was not given by a flag.
func (f *simFlags) readReady() error {
	if f.readyFile == "" {
		return nil
	}
	text, err := os.ReadFile(f.readyFile)
	if err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	var ready struct {
		URL          string `json:"url"`
		CAFile       string `json:"ca_file"`
		AdminToken   string `json:"admin_token"`
		MQTTURL      string `json:"mqtt_url"`
		MQTTUsername string `json:"mqtt_username"`
		MQTTPassword string `json:"mqtt_password"`
	}
	if err := json.Unmarshal(text, &ready); err != nil {
		return fmt.Errorf("ready file %s: %w", f.readyFile, err)
	}
	for _, pair := range []struct {
		flag  *string
		value string
	}{
		{&f.url, ready.URL},
		{&f.ca, ready.CAFile},
		{&f.operatorToken, ready.AdminToken},
		{&f.mqtt, ready.MQTTURL},
		{&f.mqttUsername, ready.MQTTUsername},
		{&f.mqttPassword, ready.MQTTPassword},
	} {
		if *pair.flag == "" {
			*pair.flag = pair.value
		}
	}
	return nil
}

// runner is one part of the simulation.
type runner interface {
	Run(ctx context.Context) error
}

// run builds all parts before it starts the first, so that a mistake is told before anything happens.
func (f *simFlags) run(ctx context.Context, out, logs io.Writer) error {
	parts, err := f.parts(out, logs)
	if err != nil {
		return err
	}
	if f.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.duration)
		defer cancel()
	}
	var running sync.WaitGroup
	errs := make([]error, len(parts))
	for i, p := range parts {
		running.Go(func() { errs[i] = p.Run(ctx) })
	}
	running.Wait()
	return errors.Join(errs...)
}

func (f *simFlags) parts(out, logs io.Writer) (parts []runner, err error) {
	level := slog.LevelInfo
	if f.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: level}))
	if f.device != "" && len(f.replays) > 1 {
		return nil, errors.New("--device names one device, and there are several --replay")
	}
	if f.devices < 0 || f.plugs < 0 {
		return nil, errors.New("--devices and --plugs cannot be negative")
	}
	if f.devices == 0 && f.plugs == 0 && len(f.replays) == 0 {
		return nil, errors.New("nothing to simulate: want --devices, --replay or --plugs")
	}
	shared := &lockedWriter{to: out} // the parts write whole lines
	if f.devices > 0 || len(f.replays) > 0 {
		if parts, err = f.wssParts(shared, log); err != nil {
			return nil, err
		}
	}
	return f.addPlugs(parts, log)
}

func (f *simFlags) wssParts(out io.Writer, log *slog.Logger) (parts []runner, err error) {
	uplink, err := f.uplink(log)
	if err != nil {
		return nil, err
	}
	if f.devices > 0 {
		faults, err := sim.ParseFaults(f.faults)
		if err != nil {
			return nil, err
		}
		fleet, err := sim.NewFleet(uplink, sim.FleetOptions{
			Devices: f.devices, Rate: f.rate, Prefix: f.prefix, Models: f.models, Seed: f.seed, Faults: faults, Out: out,
		})
		if err != nil {
			return nil, err
		}
		parts = append(parts, fleet)
	}
	speed, err := sim.ParseSpeed(f.speed)
	if err != nil {
		return nil, err
	}
	for _, file := range f.replays {
		replay, err := sim.NewReplay(uplink, sim.ReplayOptions{
			File: file, Device: f.device, Measurement: f.measurement, Speed: speed, Out: out,
		})
		if err != nil {
			return nil, err
		}
		parts = append(parts, replay)
	}
	return parts, nil
}

func (f *simFlags) uplink(log *slog.Logger) (*sim.Uplink, error) {
	if f.url == "" {
		return nil, errors.New("no hub: give --url, or --ready-file of a running hub")
	}
	address, err := sim.DeviceURL(f.url)
	if err != nil {
		return nil, err
	}
	trust, err := sim.TrustCA(f.ca)
	if err != nil {
		return nil, err
	}
	uplink := &sim.Uplink{URL: address, TLS: trust, Log: log}
	switch f.codec {
	case "json":
		uplink.Codec = wire.JSON
	case "cbor":
		uplink.Codec = wire.CBOR
	default:
		return nil, fmt.Errorf("--codec %q: want json or cbor", f.codec)
	}
	if uplink.Tokens, err = f.tokenSource(trustedTransport(uplink), log); err != nil {
		return nil, err
	}
	return uplink, nil
}

func trustedTransport(u *sim.Uplink) *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: u.TLS.Clone(), ForceAttemptHTTP2: true, IdleConnTimeout: 30 * time.Second,
	}
}

func (f *simFlags) tokenSource(transport http.RoundTripper, log *slog.Logger) (sim.TokenSource, error) {
	if f.enroll != "" {
		return sim.NewEnrollment(sim.EnrollOptions{
			Hub: f.url, Secret: f.enroll, Algorithm: f.enrollAlg, KeysDir: f.keysDir, Transport: transport, Log: log,
		})
	}
	if f.tokens != "" {
		file, err := os.Open(f.tokens)
		if err != nil {
			return nil, fmt.Errorf("tokens: %w", err)
		}
		defer file.Close()
		return sim.ReadTokens(file)
	}
	if f.operatorToken == "" {
		return nil, errors.New("no tokens: give --operator-token (or FAIRLEAD_TOKEN), --enroll, --tokens, or --ready-file of a running hub")
	}
	operator, err := sim.NewOperator(f.url, f.operatorToken, transport)
	if err != nil {
		return nil, err
	}
	if f.ownKeys {
		return sim.NewOwnKeys(operator, f.audience, siteOf), nil
	}
	return sim.NewMintedTokens(operator, siteOf), nil
}

// simSites is how many sites the devices of a simulated fleet are spread over, so that there is something to select by.
const simSites = 4

func siteOf(device string) map[string]string {
	h := fnv.New32a()
	_, _ = io.WriteString(h, device) // a hash takes every write
	return map[string]string{"site": "plant-" + strconv.Itoa(1+int(h.Sum32()%simSites))}
}

func (f *simFlags) addPlugs(parts []runner, log *slog.Logger) ([]runner, error) {
	if f.plugs > 0 && f.mqtt == "" {
		return nil, errors.New("no broker for the plugs: give --mqtt, or --ready-file of a running hub")
	}
	for i := range f.plugs {
		trust, err := sim.TrustCA(f.ca)
		if err != nil {
			return nil, err
		}
		plug, err := sim.NewPlug(sim.PlugOptions{
			Broker: f.mqtt, Username: f.mqttUsername, Password: f.mqttPassword, TLS: trust,
			Index: i, Period: f.plugPeriod, Seed: f.seed, Log: log,
		})
		if err != nil {
			return nil, err
		}
		parts = append(parts, plug)
	}
	return parts, nil
}

// lockedWriter lets several parts write lines to one place.
type lockedWriter struct {
	mu sync.Mutex
	to io.Writer
}

// Write passes one line on.
func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}
