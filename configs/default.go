package configs

import (
	"log/slog"
	"time"
)

// Day is 24 hours.
const Day = 24 * time.Hour

// Default returns the configuration of a hub that was told nothing.
func Default() Config {
	return Config{
		Listen:  "127.0.0.1:8443",
		DataDir: "fairlead-data",
		TLS: TLS{
			Mode: TLSAuto, Hosts: []string{"localhost", "127.0.0.1", "::1"}, ClientAuth: ClientAuthOff,
			ACME: ACME{DirectoryURL: "https://acme-v02.api.letsencrypt.org/directory"},
		},
		Auth: Auth{
			Issuer:      "fairlead",
			Audience:    "fairlead",
			TokenTTL:    Day,
			MaxTokenTTL: Day,
			Skew:        time.Minute,

			EnrollsPerMinute: 600,
		},
		Devices: Devices{
			Heartbeat:         30 * time.Second,
			MaxHandshakes:     256,
			MaxPosts:          256,
			ConnectsPerMinute: 30,
			FrameBytes:        64 << 10,
			PointsPerFrame:    1000,
			UnackedFrames:     256,
			QueueBytes:        256 << 10,
			WriteTimeout:      10 * time.Second,
			MalformedLimit:    20,
			DrainFor:          5 * time.Second,
			ConnectSpread:     8 * time.Second,
			BindCertificate:   BindOff,
			CertificateNames:  []string{"cn", "dns", "uri:urn:device:"},

			ConnectsPerSecond:        5000,
			MaxPending:               4096,
			AddressConnectsPerMinute: 30_000,
			FramesPerSecond:          20_000,
			BytesPerSecond:           32 << 20,
			PointsPerSecond:          500_000,
			QuotaPatience:            time.Minute,
			FlapLimit:                5,
			FlapWindow:               time.Minute,
		},
		Ingest: Ingest{
			Sync:           true,
			BatchBytes:     256 << 10,
			LogBytes:       4 << 30,
			MinFreeBytes:   512 << 20,
			WriteLines:     10_000,
			MaxAge:         7300 * Day,
			MaxAhead:       10 * time.Minute,
			DeviceFields:   256,
			TotalSeries:    1_000_000,
			DeadletterKeep: 7 * Day,
		},
		Influx: Influx{
			Flavor:         FlavorAuto,
			Org:            "fairlead",
			Bucket:         "telemetry",
			Timeout:        20 * time.Second,
			EmbeddedListen: "127.0.0.1:8086",
		},
		NATS: NATS{Replicas: 1, Cluster: Cluster{Name: "fairlead"}},
		Commands: Commands{
			DefaultTTL:     time.Hour,
			MaxTTL:         30 * Day,
			DefaultTimeout: 30 * time.Second,
			MaxTimeout:     time.Hour,
			QueuePerDevice: 50,
			SentPerDevice:  64,
			DrainPerSecond: 10,
			MaxOpen:        500_000,
			ParamsBytes:    32 << 10,
			LogBytes:       1 << 30,
			Keep:           90 * Day,
		},
		Bridge: Bridge{
			MaxDevices: 10_000,
			Broker:     Broker{Listen: "127.0.0.1:1883", Username: "fairlead"},
			Connections: []Connection{{
				Name: "embedded", URL: EmbeddedBroker, Profiles: []string{"tasmota"},
				Timezone: "UTC", InFlight: 256, MaxPayload: 64 << 10,
			}},
		},
		Console: Console{Enabled: true},
		Admin:   Admin{Listen: "127.0.0.1:8490"},
		Log:     Log{Level: slog.LevelInfo, Format: "text"},
	}
}

// EmbeddedBroker is the connection URL that stands for the hub's own broker.
const EmbeddedBroker = "embedded"
