// Package configs is the hub's configuration: its shape, its defaults, how it is read and what is wrong with it.
//
// The order is Default, then a YAML file (unknown keys are errors), then FAIRLEAD_... variables, then flags; Validate
// then reports every fault at once, each with its key. fairlead.yaml beside this file is embedded and documents every
// key with its default.
package configs

import (
	"log/slog"
	"time"
)

// Config is the whole configuration. Values, not pointers: Default holds the defaults, zero means zero.
type Config struct {
	Listen   string   `yaml:"listen"`
	DataDir  string   `yaml:"data_dir"`
	Node     string   `yaml:"node"`
	TLS      TLS      `yaml:"tls"`
	Auth     Auth     `yaml:"auth"`
	Devices  Devices  `yaml:"devices"`
	Ingest   Ingest   `yaml:"ingest"`
	Influx   Influx   `yaml:"influx"`
	NATS     NATS     `yaml:"nats"`
	Commands Commands `yaml:"commands"`
	Bridge   Bridge   `yaml:"bridge"`
	Console  Console  `yaml:"console"`
	Admin    Admin    `yaml:"admin"`
	Log      Log      `yaml:"log"`
}

// The TLS modes.
const (
	TLSAuto  = "auto"  // self-signed, made at the first start, its CA in the data directory
	TLSFiles = "files" // cert_file and key_file, read again when they change
	TLSACME  = "acme"  // issued and renewed by an ACME directory, such as Let's Encrypt
	TLSOff   = "off"   // only on loopback, or with allow_plaintext
)

// Whether clients are asked for certificates of their own.
const (
	ClientAuthOff      = "off"
	ClientAuthOptional = "optional" // asked for, and verified when shown
	ClientAuthRequire  = "require"  // nobody connects without, operators and browsers neither
)

// How a device's certificate is bound to its token.
const (
	BindOff     = "off"
	BindMatch   = "match"   // a certificate that is shown must name the device
	BindRequire = "require" // and one must be shown
)

// TLS says how the hub's own listener is encrypted.
type TLS struct {
	Mode           string   `yaml:"mode"`
	CertFile       string   `yaml:"cert_file"`
	KeyFile        string   `yaml:"key_file"`
	Hosts          []string `yaml:"hosts"`
	AllowPlaintext bool     `yaml:"allow_plaintext"`
	ClientAuth     string   `yaml:"client_auth"`
	ClientCAFile   string   `yaml:"client_ca_file"`
	ACME           ACME     `yaml:"acme"`
}

// ACME names who issues the listener's certificate [RFC8555]. HTTPListen also answers http-01 there; without it the
// listener itself answers tls-alpn-01.
type ACME struct {
	Hosts        []string `yaml:"hosts"`
	Email        string   `yaml:"email"`
	DirectoryURL string   `yaml:"directory_url"`
	CAFile       string   `yaml:"ca_file"`
	HTTPListen   string   `yaml:"http_listen"`
}

// Auth says which tokens are good.
type Auth struct {
	Issuer      string        `yaml:"issuer"`
	Audience    string        `yaml:"audience"`
	KeysDir     string        `yaml:"keys_dir"`
	TokenTTL    time.Duration `yaml:"token_ttl"`
	MaxTokenTTL time.Duration `yaml:"max_token_ttl"`
	Skew        time.Duration `yaml:"skew"`
	Origins     []string      `yaml:"origins"`
	Issuers     []Issuer      `yaml:"issuers"`

	EnrollsPerMinute int `yaml:"enrolls_per_minute"`
}

// Issuer is an outside party whose tokens devices may carry.
type Issuer struct {
	Issuer      string        `yaml:"issuer"`
	JWKSURL     string        `yaml:"jwks_url"`
	Audience    string        `yaml:"audience"`     // empty: auth.audience
	DeviceClaim string        `yaml:"device_claim"` // empty: sub
	Refresh     time.Duration `yaml:"refresh"`      // 0: 10m
	CAFile      string        `yaml:"ca_file"`
}

// Devices bounds the link.
type Devices struct {
	Heartbeat         time.Duration `yaml:"heartbeat"`
	MaxSessions       int           `yaml:"max_sessions"`
	MaxHandshakes     int           `yaml:"max_handshakes"`
	ConnectTurns      int           `yaml:"connect_turns"`  // connects and ends worked at at once; 0: one for each processor
	ConnectSpread     time.Duration `yaml:"connect_spread"` // over which a fleet that comes at once is let in; 0: as fast as it can be
	MaxPosts          int           `yaml:"max_posts"`
	ConnectsPerMinute int           `yaml:"connects_per_minute"`
	FrameBytes        int           `yaml:"frame_bytes"`
	PointsPerFrame    int           `yaml:"points_per_frame"`
	UnackedFrames     int           `yaml:"unacked_frames"`
	QueueBytes        int           `yaml:"queue_bytes"`
	WriteTimeout      time.Duration `yaml:"write_timeout"`
	MalformedLimit    int           `yaml:"malformed_limit"`
	DrainFor          time.Duration `yaml:"drain_for"`
	BindCertificate   string        `yaml:"bind_certificate"`
	CertificateNames  []string      `yaml:"certificate_names"`

	ConnectsPerSecond        int           `yaml:"connects_per_second"`         // of all devices
	MaxPending               int           `yaml:"max_pending"`                 // connections that have asked for nothing yet
	AddressConnectsPerMinute int           `yaml:"address_connects_per_minute"` // of one address
	AddressPending           int           `yaml:"address_pending"`
	TrustedProxies           []string      `yaml:"trusted_proxies"`
	FramesPerSecond          int           `yaml:"frames_per_second"` // of one device, as the next two
	BytesPerSecond           int           `yaml:"bytes_per_second"`
	PointsPerSecond          int           `yaml:"points_per_second"`
	QuotaPatience            time.Duration `yaml:"quota_patience"` // with a device that keeps sending more; 0: any
	FlapLimit                int           `yaml:"flap_limit"`
	FlapWindow               time.Duration `yaml:"flap_window"`
	Expect                   []Expectation `yaml:"expect"`
}

// Expectation says how often devices should send telemetry. The first that fits a device holds for it.
type Expectation struct {
	Selector string        `yaml:"selector"`
	Every    time.Duration `yaml:"every"`
}

// Ingest bounds the way from a point to the log and from the log to InfluxDB.
type Ingest struct {
	Sync           bool          `yaml:"sync"`
	BatchBytes     int           `yaml:"batch_bytes"`
	LogBytes       int64         `yaml:"log_bytes"`
	MinFreeBytes   int64         `yaml:"min_free_bytes"`
	WriteLines     int           `yaml:"write_lines"`
	MaxAge         time.Duration `yaml:"max_age"`
	MaxAhead       time.Duration `yaml:"max_ahead"`
	IntegerFields  []string      `yaml:"integer_fields"`
	Tags           []string      `yaml:"tags"`
	DeviceFields   int           `yaml:"device_fields"`
	TotalSeries    int           `yaml:"total_series"`
	DeadletterKeep time.Duration `yaml:"deadletter_keep"`
}

// The flavors of InfluxDB's API, beside the one that finds out.
const (
	FlavorAuto            = "auto"
	FlavorInflux1         = "influxdb1" // 1.8 and later
	FlavorInflux2         = "influxdb2"
	FlavorInflux3         = "influxdb3" // Core
	FlavorVictoriaMetrics = "victoriametrics"
)

// Influx names the store; an empty URL is the embedded one.
type Influx struct {
	URL            string        `yaml:"url"`
	Flavor         string        `yaml:"flavor"`
	Token          Secret        `yaml:"token"`
	TokenFile      string        `yaml:"token_file"`
	Org            string        `yaml:"org"`
	Bucket         string        `yaml:"bucket"`
	Timeout        time.Duration `yaml:"timeout"`
	Gzip           bool          `yaml:"gzip"`
	Retention      time.Duration `yaml:"retention"`
	EmbeddedListen string        `yaml:"embedded_listen"`
	EmbeddedBytes  int64         `yaml:"embedded_bytes"` // of the embedded store on disk; 0: no limit
}

// NATS names the bus; empty URLs are the embedded one.
type NATS struct {
	URLs     []string `yaml:"urls"`
	Creds    string   `yaml:"creds"`
	Replicas int      `yaml:"replicas"`
	Cluster  Cluster  `yaml:"cluster"`
}

// Cluster joins the embedded NATS servers of several hubs; an empty Listen is one node alone.
type Cluster struct {
	Name   string   `yaml:"name"`
	Listen string   `yaml:"listen"`
	Routes []string `yaml:"routes"`
}

// Commands bounds what operators ask.
type Commands struct {
	DefaultTTL     time.Duration `yaml:"default_ttl"`
	MaxTTL         time.Duration `yaml:"max_ttl"`
	DefaultTimeout time.Duration `yaml:"default_timeout"`
	MaxTimeout     time.Duration `yaml:"max_timeout"`
	QueuePerDevice int           `yaml:"queue_per_device"`
	SentPerDevice  int           `yaml:"sent_per_device"`
	DrainPerSecond int           `yaml:"drain_per_second"`
	MaxOpen        int           `yaml:"max_open"`
	ParamsBytes    int           `yaml:"params_bytes"`
	LogBytes       int64         `yaml:"log_bytes"`
	Keep           time.Duration `yaml:"keep"`
	Approve        []Approval    `yaml:"approve"`
}

// Approval says which commands wait until a second operator agrees: those that a rule fits in everything it gives.
// Devices and Commands are names or patterns such as pump-*; none is all.
type Approval struct {
	Selector string   `yaml:"selector"`
	Devices  []string `yaml:"devices"`
	Commands []string `yaml:"commands"`
}

// Bridge is the MQTT side.
type Bridge struct {
	Broker      Broker       `yaml:"broker"`
	Connections []Connection `yaml:"connections"`
	MaxDevices  int          `yaml:"max_devices"` // bridged devices of all connections together
}

// Broker is the embedded MQTT broker; an empty Listen starts none.
type Broker struct {
	Listen       string `yaml:"listen"`
	Username     string `yaml:"username"`
	Password     Secret `yaml:"password"` // empty: one is made at the first start
	PasswordFile string `yaml:"password_file"`
	TokensOnly   bool   `yaml:"tokens_only"` // nobody is let in by that name and password, only devices by their tokens
}

// Connection is one broker that the hub bridges. URL is tcp://, ssl://, ws:// or wss:// with host and port;
// "embedded" is the broker above. ClientID defaults to one of node and name; it must differ between nodes, or they
// throw each other out. InFlight is how many messages may wait to be stored, and how many of ours for the broker's
// acknowledgement.
type Connection struct {
	Name         string   `yaml:"name"`
	URL          string   `yaml:"url"`
	Username     string   `yaml:"username"`
	Password     Secret   `yaml:"password"`
	PasswordFile string   `yaml:"password_file"`
	ClientID     string   `yaml:"client_id"`
	CAFile       string   `yaml:"ca_file"`
	Profiles     []string `yaml:"profiles"` // fleets understood without a map: tasmota
	Timezone     string   `yaml:"timezone"` // of times that name no zone, as Tasmota's; empty is UTC
	In           []InMap  `yaml:"in"`
	Out          []OutMap `yaml:"out"`
	Command      []CmdMap `yaml:"commands"`
	InFlight     int      `yaml:"in_flight"`         // 0 is 256
	MaxPayload   int      `yaml:"max_payload_bytes"` // 0 is 64 KiB
}

// InMap turns a topic into points. Topic is a filter whose levels may be {device}, {measurement}, {field}, {tag:NAME}
// or a wildcard; Payload is json (an object of fields, the default), value (one number, boolean or string) or line
// (line protocol). What the topic does not say, Device, Measurement and Field do. Time names the key of a JSON payload
// that holds the time. Retained also takes what the broker had kept, which is the state of an unknown time.
type InMap struct {
	Topic       string `yaml:"topic"`
	QoS         int    `yaml:"qos"` // 0 or 1; only 1 is never lost
	Payload     string `yaml:"payload"`
	Device      string `yaml:"device"`
	Measurement string `yaml:"measurement"`
	Field       string `yaml:"field"`
	Time        string `yaml:"time"`
	Retained    bool   `yaml:"retained"`
}

// OutMap publishes stored telemetry of chosen devices to a topic, in which {device} and {measurement} are replaced.
// Devices are ids, or patterns such as pump-*; none is every device.
type OutMap struct {
	Topic   string   `yaml:"topic"`
	Devices []string `yaml:"devices"`
	QoS     int      `yaml:"qos"` // 0 or 1; only 1 is never lost
}

// CmdMap carries commands to devices that no profile knows: Topic and Payload may hold {device}, {name} and {id}, and
// Payload also {params} and {param:NAME}; an empty Payload is the command as JSON. Reply, if set, is the topic on
// which an answer comes back that holds the id, in a level {id} or as "id" of a JSON object; it may have a level
// {device}. Without Reply a command that the broker took counts as done, with evidence "assumed".
type CmdMap struct {
	Devices []string `yaml:"devices"`
	Topic   string   `yaml:"topic"`
	Payload string   `yaml:"payload"`
	Reply   string   `yaml:"reply"`
	QoS     int      `yaml:"qos"` // 0 or 1
}

// Console switches the web console.
type Console struct {
	Enabled bool `yaml:"enabled"`
}

// Admin is the listener for /metrics, /healthz and /readyz; empty is none.
type Admin struct {
	Listen string `yaml:"listen"`
}

// Log says what is logged.
type Log struct {
	Level  slog.Level `yaml:"level"`
	Format string     `yaml:"format"`
}

// Secret is a string that never prints.
type Secret string

// redacted stands for a secret wherever one would print.
const redacted = "[redacted]"

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalYAML hides the secret from printed configuration.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// LogValue hides the secret from logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
