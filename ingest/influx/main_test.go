package influx_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/ingest/embedded"
	"github.com/fairlead-hub/fairlead/ingest/influx"
	"github.com/fairlead-hub/fairlead/internal/influxtest"
)

// patience bounds every wait; nothing is measured by it.
const patience = 30 * time.Second

func open(t *testing.T, url, token string, change ...func(*configs.Influx)) *influx.Store {
	t.Helper()
	c := configs.Default().Influx
	c.URL, c.Token = url, configs.Secret(token)
	for _, fn := range change {
		fn(&c)
	}
	s := influx.New(c)
	t.Cleanup(s.Close)
	return s
}

// openEmbedded runs the embedded store until the test ends.
func openEmbedded(t *testing.T) *embedded.Store {
	t.Helper()
	s, err := embedded.New(embedded.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "secret", Bucket: "telemetry"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// openVictoria runs a real VictoriaMetrics until the test ends.
func openVictoria(t *testing.T) (url string) {
	t.Helper()
	out, err := exec.Command("go", "env", "GOPATH").Output()
	if err != nil {
		t.Fatal(err)
	}
	path, err := exec.LookPath(filepath.Join(strings.TrimSpace(string(out)), "bin", "victoria-metrics"))
	if err != nil {
		t.Fatalf("victoria-metrics is not installed: make check installs it: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	cmd := exec.Command(path, "-httpListenAddr="+addr, "-storageDataPath="+t.TempDir(), "-loggerLevel=ERROR")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	url = "http://" + addr
	deadline := time.Now().Add(patience)
	for {
		resp, err := http.Get(url + "/health")
		if err == nil {
			_ = resp.Body.Close()
			return url
		}
		if time.Now().After(deadline) {
			t.Fatalf("victoria-metrics does not answer: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// scripted is a store of a kind that cannot be had here: what it answers by path.
func scripted(t *testing.T, answers map[string]http.HandlerFunc) string {
	t.Helper()
	mux := http.NewServeMux()
	for path, answer := range answers {
		mux.HandleFunc(path, answer)
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// versioned answers a ping as a version would.
func versioned(status int, version, build string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if version != "" {
			w.Header().Set("X-Influxdb-Version", version)
		}
		if build != "" {
			w.Header().Set("X-Influxdb-Build", build)
		}
		w.WriteHeader(status)
	}
}

// history asks for one field's raw points of the last hours.
func history(t *testing.T, s *influx.Store, device string) (influx.History, error) {
	t.Helper()
	return s.History(t.Context(), influx.HistoryRequest{Device: device, From: time.Now().Add(-2 * time.Hour)})
}

func startInflux(t *testing.T, auth bool) *influxtest.Server {
	t.Helper()
	return influxtest.Start(t, influxtest.Options{Auth: auth, Database: "other"})
}
