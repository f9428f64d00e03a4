package influx

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/fairlead-hub/fairlead/configs"
)

// Found is what answers at the URL.
type Found struct {
	Flavor  string // one of configs.Flavor...
	Version string // as it says; "" if it does not
	Build   string
	Note    string // what an operator should know, or ""
}

// Name is what people call it.
func (f Found) Name() string {
	name := "InfluxDB"
	if f.Flavor == configs.FlavorVictoriaMetrics {
		name = "VictoriaMetrics"
	}
	return strings.TrimSpace(strings.Join([]string{name, f.Version, f.Build}, " "))
}

// History says by what language history is read, or why it is not.
func (f Found) History() string {
	switch f.Flavor {
	case configs.FlavorVictoriaMetrics:
		return "none: no InfluxQL"
	case configs.FlavorInflux2:
		return "InfluxQL, by the bucket's DBRP mapping"
	}
	return "InfluxQL"
}

func (s *Store) speaksInfluxQL() bool {
	f := s.found.Load()
	if f == nil {
		return s.flavor != configs.FlavorVictoriaMetrics
	}
	return f.Flavor != configs.FlavorVictoriaMetrics
}

// Detect asks what serves the URL. A configured flavor is not questioned, but the store must answer.
func (s *Store) Detect(ctx context.Context) (Found, error) {
	found, err := s.ping(ctx)
	if err != nil {
		return found, err
	}
	if s.flavor != "" && s.flavor != configs.FlavorAuto {
		found.Flavor = s.flavor
	}
	if found.Flavor == "" {
		return found, fmt.Errorf("what answers at %s is no InfluxDB that is known; name it with influx.flavor", s.url)
	}
	if found.Flavor == configs.FlavorInflux1 && before18(found.Version) {
		return found, fmt.Errorf("InfluxDB %s has no /api/v2/write; 1.8 is the oldest that does", found.Version)
	}
	s.found.Store(&found)
	return found, nil
}

// ping reads the headers that tell the members of the family apart.
func (s *Store) ping(ctx context.Context) (f Found, err error) {
	resp, err := s.get(ctx, http.MethodGet, "/ping", nil)
	if err != nil {
		return f, err
	}
	f.Version = strings.TrimPrefix(resp.Header.Get("X-Influxdb-Version"), "v")
	f.Build = resp.Header.Get("X-Influxdb-Build")
	if f.Version == "" && resp.StatusCode == http.StatusOK {
		f.Version = coreVersion(resp.Body)
	}
	_ = resp.Body.Close()
	if f.Version == "" || resp.Header.Get("X-Server-Hostname") != "" {
		// VictoriaMetrics answers in InfluxDB's place, with a header of its own and a version that is not its own.
		if ok, err := s.isVictoria(ctx); err != nil || ok {
			return Found{Flavor: configs.FlavorVictoriaMetrics, Version: s.victoriaVersion(ctx), Note: victoriaNote}, err
		}
	}
	switch major, _, _ := strings.Cut(f.Version, "."); {
	case major == "1":
		f.Flavor = configs.FlavorInflux1
	case major == "2", f.Build == "Cloud":
		f.Flavor = configs.FlavorInflux2
	case major == "3":
		f.Flavor = configs.FlavorInflux3
	case f.Build == "OSS": // built by somebody who did not say which version
		return s.unversioned(ctx, f)
	}
	if f.Flavor == "" && (resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden) {
		return f, &queryError{resp.StatusCode, "the token is not accepted"}
	}
	return f, nil
}

// unversioned tells an InfluxDB 2 from a 1.8 by what only the newer one has.
func (s *Store) unversioned(ctx context.Context, f Found) (Found, error) {
	resp, err := s.get(ctx, http.MethodGet, "/api/v2/setup", nil)
	if err != nil {
		return f, err
	}
	_ = resp.Body.Close()
	f.Flavor = configs.FlavorInflux1
	if resp.StatusCode == http.StatusOK {
		f.Flavor = configs.FlavorInflux2
	}
	return f, nil
}

// victoriaNote is what VictoriaMetrics does to points without a word.
const victoriaNote = "VictoriaMetrics keeps strings as 0, booleans as 0 and 1, and times to the millisecond"

func (s *Store) isVictoria(ctx context.Context) (bool, error) {
	resp, err := s.get(ctx, http.MethodGet, "/health", nil)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64))
	if err != nil {
		return false, fmt.Errorf("read the answer of influx: %w", err)
	}
	return resp.Header.Get("X-Server-Hostname") != "" && strings.TrimSpace(string(body)) == "OK", nil
}

// victoriaVersion reads the version where VictoriaMetrics tells it, among its metrics; "" if it does not.
func (s *Store) victoriaVersion(ctx context.Context) string {
	resp, err := s.get(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(io.LimitReader(resp.Body, maxAnswer))
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), "vm_app_version{") {
			continue
		}
		_, rest, _ := strings.Cut(lines.Text(), `short_version="`)
		version, _, _ := strings.Cut(rest, `"`)
		return strings.TrimPrefix(version, "v")
	}
	return ""
}

func before18(version string) bool {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(minor)
	return major == "1" && err == nil && n < 8
}
