package influxtest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead-hub/fairlead/internal/influxtest"
)

func TestServerKeepsItsDataAcrossKillAndRestart(t *testing.T) {
	for name, o := range map[string]influxtest.Options{
		"open": {},
		"auth": {Auth: true, Database: "other"},
	} {
		t.Run(name, func(t *testing.T) {
			s := influxtest.Start(t, o)
			if status, body, err := s.Write(t.Context(), "m v=1 1\nm v=2 2"); err != nil || status != http.StatusNoContent {
				t.Fatal(status, body, err)
			}
			url := s.URL
			s.Kill()
			if _, err := s.Query(t.Context(), "SHOW DATABASES"); err == nil {
				t.Error("a killed server answers")
			}
			s.Restart()
			if n := s.Count("m", "v"); n != 2 || s.URL != url {
				t.Errorf("%d values at %s, want 2 at %s", n, s.URL, url)
			}
			if _, err := s.Query(t.Context(), "SELEKT"); err == nil || !strings.Contains(err.Error(), "found SELEKT") {
				t.Errorf("a bad query: %v", err)
			}
		})
	}
}
