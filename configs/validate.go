package configs

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/selector"
)

// Fault is one thing that is wrong with the configuration.
type Fault struct {
	Key   string
	Value any
	What  string
}

// Error names key, value and what to do.
func (f *Fault) Error() string { return fmt.Sprintf("%s: %v: %s", f.Key, f.Value, f.What) }

// faults collects what is wrong.
type faults []error

func (fs *faults) add(key string, value any, what string) {
	*fs = append(*fs, &Fault{key, value, what})
}

func (fs *faults) check(ok bool, key string, value any, what string) {
	if !ok {
		fs.add(key, value, what)
	}
}

// Validate reports every fault of c at once; each is a *Fault that names its key.
func (c *Config) Validate() error {
	var fs faults
	fs.address("listen", c.Listen, false)
	fs.address("admin.listen", c.Admin.Listen, true)
	fs.address("influx.embedded_listen", c.Influx.EmbeddedListen, c.Influx.URL != "")
	fs.address("bridge.broker.listen", c.Bridge.Broker.Listen, true)
	fs.address("nats.cluster.listen", c.NATS.Cluster.Listen, true)
	fs.check(c.DataDir != "", "data_dir", `""`, "name a directory")
	if c.Node != "" {
		if err := wire.CheckID(c.Node); err != nil {
			fs.add("node", c.Node, "use A-Z a-z 0-9 _ : -, at most 64")
		}
	}
	c.checkTLS(&fs)
	c.checkAuth(&fs)
	c.checkDevices(&fs)
	c.checkIngest(&fs)
	c.checkInflux(&fs)
	c.checkNATS(&fs)
	c.checkCommands(&fs)
	c.checkBridge(&fs)
	fs.check(slices.Contains([]string{"text", "json"}, c.Log.Format), "log.format", c.Log.Format, "use text or json")
	return errors.Join(fs...)
}

func (fs *faults) address(key, addr string, optional bool) {
	if addr == "" && optional {
		return
	}
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
		fs.add(key, fmt.Sprintf("%q", addr), "want HOST:PORT, such as 127.0.0.1:8443")
	}
}

func (fs *faults) positive(key string, v int64) {
	fs.check(v > 0, key, v, "must be greater than 0")
}

func (fs *faults) between(key string, v, low, high time.Duration) {
	fs.check(v >= low && v <= high, key, v, fmt.Sprintf("must be from %s to %s", low, high))
}

func (fs *faults) url(key, raw string, schemes ...string) {
	u, err := url.Parse(raw)
	fs.check(err == nil && u.Host != "" && slices.Contains(schemes, u.Scheme), key, fmt.Sprintf("%q", raw),
		"want a URL that begins with "+strings.Join(schemes, ":// or ")+"://")
}

func (fs *faults) file(key, name string) {
	if name == "" {
		return
	}
	if _, err := os.Stat(name); err != nil {
		fs.add(key, name, "no such file")
	}
}

// Loopback reports whether addr is reached from this machine only.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c *Config) checkTLS(fs *faults) {
	switch c.TLS.Mode {
	case TLSAuto:
	case TLSFiles:
		fs.check(c.TLS.CertFile != "", "tls.cert_file", `""`, "mode files needs it")
		fs.check(c.TLS.KeyFile != "", "tls.key_file", `""`, "mode files needs it")
		fs.file("tls.cert_file", c.TLS.CertFile)
		fs.file("tls.key_file", c.TLS.KeyFile)
	case TLSACME:
		c.checkACME(fs)
	case TLSOff:
		fs.check(Loopback(c.Listen) || c.TLS.AllowPlaintext, "tls.mode", c.TLS.Mode,
			"without TLS the hub listens on loopback only; set tls.allow_plaintext: true if a proxy ends TLS")
	default:
		fs.add("tls.mode", c.TLS.Mode, "use auto, files, acme or off")
	}
	c.checkClients(fs)
}

func (c *Config) checkACME(fs *faults) {
	a := c.TLS.ACME
	fs.check(len(a.Hosts) > 0, "tls.acme.hosts", "[]", "mode acme needs the names that clients connect to")
	for i, h := range a.Hosts {
		plain := strings.Contains(strings.Trim(h, "."), ".") && net.ParseIP(h) == nil && !strings.ContainsAny(h, "*:/ ")
		fs.check(plain, fmt.Sprintf("tls.acme.hosts[%d]", i), h, "want a full host name, such as hub.example.com")
	}
	fs.url("tls.acme.directory_url", a.DirectoryURL, "https")
	fs.file("tls.acme.ca_file", a.CAFile)
	fs.address("tls.acme.http_listen", a.HTTPListen, true)
}

func (c *Config) checkClients(fs *faults) {
	auth, bind := c.TLS.ClientAuth, c.Devices.BindCertificate
	asked := auth == ClientAuthOptional || auth == ClientAuthRequire
	fs.check(asked || auth == ClientAuthOff, "tls.client_auth", auth, "use off, optional or require")
	if asked {
		fs.check(c.TLS.Mode != TLSOff, "tls.client_auth", auth, "without TLS nobody shows a certificate")
		fs.check(c.TLS.ClientCAFile != "", "tls.client_ca_file", `""`, "client_auth needs the CAs of those certificates")
		fs.file("tls.client_ca_file", c.TLS.ClientCAFile)
	}
	fs.check(slices.Contains([]string{BindOff, BindMatch, BindRequire}, bind), "devices.bind_certificate", bind, "use off, match or require")
	if bind != BindOff {
		fs.check(asked, "devices.bind_certificate", bind, "set tls.client_auth: optional, or no device is asked for a certificate")
		fs.check(len(c.Devices.CertificateNames) > 0, "devices.certificate_names", "[]", "say where a certificate names its device: cn, dns, dns:SUFFIX, uri:PREFIX")
	}
	for i, n := range c.Devices.CertificateNames {
		kind, rest, more := strings.Cut(n, ":")
		good := kind == "cn" && !more || kind == "dns" && (!more || rest != "") || kind == "uri" && rest != ""
		fs.check(good, fmt.Sprintf("devices.certificate_names[%d]", i), n, "use cn, dns, dns:SUFFIX or uri:PREFIX")
	}
}

func (c *Config) checkAuth(fs *faults) {
	fs.check(c.Auth.Issuer != "", "auth.issuer", `""`, "must not be empty")
	fs.check(c.Auth.Audience != "", "auth.audience", `""`, "must not be empty: tokens for others would be accepted")
	fs.between("auth.token_ttl", c.Auth.TokenTTL, time.Minute, 3650*Day)
	fs.between("auth.max_token_ttl", c.Auth.MaxTokenTTL, time.Minute, 365*Day)
	fs.between("auth.skew", c.Auth.Skew, 0, 10*time.Minute)
	for i, o := range c.Auth.Origins {
		fs.url(fmt.Sprintf("auth.origins[%d]", i), o, "https", "http")
	}
	fs.check(c.Auth.EnrollsPerMinute > 0, "auth.enrolls_per_minute", c.Auth.EnrollsPerMinute, "must be greater than 0")
	c.checkIssuers(fs)
}

func (c *Config) checkIssuers(fs *faults) {
	seen := map[string]bool{c.Auth.Issuer: true}
	for i, is := range c.Auth.Issuers {
		key := fmt.Sprintf("auth.issuers[%d]", i)
		fs.check(is.Issuer != "", key+".issuer", `""`, "must not be empty: it is the iss of the tokens, to the letter")
		fs.check(!seen[is.Issuer], key+".issuer", is.Issuer, "is there already, or is the hub's own auth.issuer")
		seen[is.Issuer] = true
		u, err := url.Parse(is.JWKSURL)
		near := err == nil && u.Scheme == "http" && Loopback(net.JoinHostPort(u.Hostname(), u.Port()))
		fs.check(near || err == nil && u.Scheme == "https" && u.Host != "", key+".jwks_url", fmt.Sprintf("%q", is.JWKSURL),
			"want https://; whoever can change the answer can sign for every device")
		if is.Refresh != 0 {
			fs.between(key+".refresh", is.Refresh, 10*time.Second, Day)
		}
		fs.file(key+".ca_file", is.CAFile)
	}
}

func (c *Config) checkDevices(fs *faults) {
	d := c.Devices
	fs.between("devices.heartbeat", d.Heartbeat, time.Second, time.Hour)
	fs.between("devices.write_timeout", d.WriteTimeout, 100*time.Millisecond, time.Minute)
	fs.between("devices.drain_for", d.DrainFor, 0, 10*time.Minute)
	fs.check(d.MaxSessions >= 0, "devices.max_sessions", d.MaxSessions, "must not be negative")
	fs.positive("devices.max_handshakes", int64(d.MaxHandshakes))
	fs.check(d.ConnectTurns >= 0, "devices.connect_turns", d.ConnectTurns, "must not be negative; 0 is one for each processor")
	fs.between("devices.connect_spread", d.ConnectSpread, 0, time.Minute)
	fs.check(d.ConnectsPerMinute >= 0, "devices.connects_per_minute", d.ConnectsPerMinute, "must not be negative")
	fs.positive("devices.max_posts", int64(d.MaxPosts))
	fs.check(d.FrameBytes >= 512 && d.FrameBytes <= 256<<10, "devices.frame_bytes", d.FrameBytes, "must be from 512 to 262144")
	fs.check(d.PointsPerFrame > 0 && d.PointsPerFrame <= 10_000, "devices.points_per_frame", d.PointsPerFrame, "must be from 1 to 10000")
	fs.positive("devices.unacked_frames", int64(d.UnackedFrames))
	fs.check(d.QueueBytes >= 4096, "devices.queue_bytes", d.QueueBytes, "must be at least 4096")
	fs.positive("devices.malformed_limit", int64(d.MalformedLimit))
	c.checkQuotas(fs)
}

// The bounds of how often a device may be expected to send.
const (
	LeastExpect = time.Second
	MostExpect  = 366 * Day
)

func (c *Config) checkQuotas(fs *faults) {
	d := c.Devices
	for _, limit := range []struct {
		key string
		n   int
	}{
		{"connects_per_second", d.ConnectsPerSecond},
		{"max_pending", d.MaxPending},
		{"address_connects_per_minute", d.AddressConnectsPerMinute},
		{"address_pending", d.AddressPending},
		{"frames_per_second", d.FramesPerSecond},
		{"bytes_per_second", d.BytesPerSecond},
		{"points_per_second", d.PointsPerSecond},
		{"flap_limit", d.FlapLimit},
	} {
		fs.check(limit.n >= 0, "devices."+limit.key, limit.n, "must not be negative; 0 is no limit")
	}
	fs.between("devices.quota_patience", d.QuotaPatience, 0, Day)
	fs.between("devices.flap_window", d.FlapWindow, time.Second, Day)
	for i, p := range d.TrustedProxies {
		if _, err := netip.ParsePrefix(p); err != nil {
			fs.add(fmt.Sprintf("devices.trusted_proxies[%d]", i), p, "want a range such as 10.0.0.0/8, or one address such as 10.0.0.5/32")
		}
	}
	for i, e := range d.Expect {
		key := fmt.Sprintf("devices.expect[%d].", i)
		if _, err := selector.Parse(e.Selector); err != nil {
			fs.add(key+"selector", e.Selector, err.Error())
		}
		fs.between(key+"every", e.Every, LeastExpect, MostExpect)
	}
}

func (c *Config) checkIngest(fs *faults) {
	n := c.Ingest
	fs.check(n.BatchBytes >= 4096 && n.BatchBytes <= 768<<10, "ingest.batch_bytes", n.BatchBytes, "must be from 4096 to 786432")
	fs.check(n.LogBytes >= 16<<20, "ingest.log_bytes", n.LogBytes, "must be at least 16777216")
	fs.check(n.MinFreeBytes >= 0, "ingest.min_free_bytes", n.MinFreeBytes, "must not be negative")
	fs.check(n.WriteLines > 0 && n.WriteLines <= 100_000, "ingest.write_lines", n.WriteLines, "must be from 1 to 100000")
	fs.between("ingest.max_age", n.MaxAge, time.Minute, 100*365*Day)
	fs.between("ingest.max_ahead", n.MaxAhead, 0, 365*Day)
	fs.between("ingest.deadletter_keep", n.DeadletterKeep, time.Minute, 3650*Day)
	fs.positive("ingest.device_fields", int64(n.DeviceFields))
	fs.positive("ingest.total_series", int64(n.TotalSeries))
	for i, p := range n.IntegerFields {
		if _, err := path.Match(p, ""); err != nil {
			fs.add(fmt.Sprintf("ingest.integer_fields[%d]", i), p, "not a pattern; use a name, or * and ? in it")
		}
	}
	for i, tag := range n.Tags {
		fs.check(tag != "device" && tag != "time" && tag != "", fmt.Sprintf("ingest.tags[%d]", i), tag, "is reserved")
	}
}

func (c *Config) checkInflux(fs *faults) {
	if c.Influx.URL != "" {
		fs.url("influx.url", c.Influx.URL, "http", "https")
	} else {
		fs.check(Loopback(c.Influx.EmbeddedListen), "influx.embedded_listen", c.Influx.EmbeddedListen,
			"the embedded store listens on loopback only; put a proxy with TLS before it")
	}
	flavors := []string{FlavorAuto, FlavorInflux1, FlavorInflux2, FlavorInflux3, FlavorVictoriaMetrics}
	fs.check(slices.Contains(flavors, c.Influx.Flavor), "influx.flavor", c.Influx.Flavor, "use "+strings.Join(flavors, ", "))
	fs.check(c.Influx.Bucket != "", "influx.bucket", `""`, "must not be empty")
	fs.check(c.Influx.Token == "" || c.Influx.TokenFile == "", "influx.token_file", c.Influx.TokenFile, "token and token_file at once; keep one")
	fs.file("influx.token_file", c.Influx.TokenFile)
	fs.between("influx.timeout", c.Influx.Timeout, time.Second, 10*time.Minute)
	const leastStore = 1 << 20
	fs.check(c.Influx.EmbeddedBytes == 0 || c.Influx.EmbeddedBytes >= leastStore, "influx.embedded_bytes", c.Influx.EmbeddedBytes, "must be 0 (no limit) or at least 1048576")
	fs.check(c.Influx.EmbeddedBytes == 0 || c.Influx.URL == "", "influx.embedded_bytes", c.Influx.EmbeddedBytes, "influx.url names an InfluxDB that bounds itself; leave one out")
	fs.check(c.Influx.Retention >= 0 && (c.Influx.Retention == 0 || c.Influx.Retention >= time.Hour), "influx.retention", c.Influx.Retention, "must be 0 (for ever) or at least 1h")
}

func (c *Config) checkNATS(fs *faults) {
	for i, u := range c.NATS.URLs {
		fs.url(fmt.Sprintf("nats.urls[%d]", i), u, "nats", "tls", "ws", "wss")
	}
	fs.file("nats.creds", c.NATS.Creds)
	fs.check(slices.Contains([]int{1, 3, 5}, c.NATS.Replicas), "nats.replicas", c.NATS.Replicas, "use 1, 3 or 5")
	if c.NATS.Cluster.Listen != "" {
		fs.check(len(c.NATS.URLs) == 0, "nats.cluster.listen", c.NATS.Cluster.Listen, "nats.urls names other servers; a cluster joins embedded ones")
		fs.check(c.Node != "", "node", `""`, "a node of a cluster needs a name of its own")
	}
}

func (c *Config) checkCommands(fs *faults) {
	k := c.Commands
	fs.between("commands.max_ttl", k.MaxTTL, time.Second, 365*Day)
	fs.between("commands.default_ttl", k.DefaultTTL, time.Second, k.MaxTTL)
	fs.between("commands.max_timeout", k.MaxTimeout, time.Second, 30*Day)
	fs.between("commands.default_timeout", k.DefaultTimeout, time.Second, k.MaxTimeout)
	fs.between("commands.keep", k.Keep, time.Hour, 3650*Day)
	fs.check(k.LogBytes >= 16<<20, "commands.log_bytes", k.LogBytes, "must be at least 16777216")
	fs.positive("commands.queue_per_device", int64(k.QueuePerDevice))
	fs.positive("commands.drain_per_second", int64(k.DrainPerSecond))
	fs.positive("commands.sent_per_device", int64(k.SentPerDevice))
	fs.positive("commands.max_open", int64(k.MaxOpen))
	fs.positive("commands.params_bytes", int64(k.ParamsBytes))
	for i, a := range k.Approve {
		key := fmt.Sprintf("commands.approve[%d]", i)
		if _, err := selector.Parse(a.Selector); err != nil {
			fs.add(key+".selector", a.Selector, err.Error())
		}
		for _, p := range append(append([]string(nil), a.Devices...), a.Commands...) {
			if _, err := path.Match(p, ""); err != nil {
				fs.add(key, p, "not a pattern; use a name, or * and ? in it")
			}
		}
	}
}

func (c *Config) checkBridge(fs *faults) {
	b := c.Bridge
	fs.positive("bridge.max_devices", int64(b.MaxDevices))
	fs.check(b.Broker.Listen == "" || b.Broker.TokensOnly || b.Broker.Username != "", "bridge.broker.username", `""`, "nobody connects without a name")
	fs.file("bridge.broker.password_file", b.Broker.PasswordFile)
	names := make(map[string]bool)
	for i, conn := range b.Connections {
		key := fmt.Sprintf("bridge.connections[%d].", i)
		fs.check(wire.CheckID(conn.Name) == nil, key+"name", fmt.Sprintf("%q", conn.Name), "use A-Z a-z 0-9 _ : -")
		fs.check(!names[conn.Name], key+"name", conn.Name, "is there twice")
		names[conn.Name] = true
		if conn.URL != EmbeddedBroker {
			fs.url(key+"url", conn.URL, "tcp", "mqtt", "ssl", "tls", "mqtts", "ws", "wss")
		}
		fs.file(key+"password_file", conn.PasswordFile)
		fs.file(key+"ca_file", conn.CAFile)
		if _, err := time.LoadLocation(conn.Timezone); err != nil {
			fs.add(key+"timezone", conn.Timezone, "use a name such as Europe/Berlin, or UTC")
		}
	}
}
