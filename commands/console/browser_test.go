package console_test

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	browserDir    = "testdata/browser"
	browserLimit  = 8 * time.Minute
	chromiumNames = "chromium chromium-browser google-chrome"
)

// TestBrowser drives the console in a real Chromium against a stand-in hub. FAIRLEAD_CONSOLE_SHOTS names a directory
// for screenshots, FAIRLEAD_CONSOLE_ONLY a part of the names of the checks to run.
func TestBrowser(t *testing.T) {
	if _, err := os.Stat(filepath.Join(browserDir, "node_modules", "playwright-core")); err != nil {
		t.Fatalf("playwright-core is not installed; run: npm ci --prefix commands/console/%s", browserDir)
	}
	small, other, large := newHub(t, smallFleet()), newHub(t, smallFleet()), newHub(t, largeFleet())
	ctx, cancel := context.WithTimeout(t.Context(), browserLimit)
	defer cancel()
	script := exec.CommandContext(ctx, "node", "run.js")
	script.Dir = browserDir
	script.Env = append(os.Environ(), "HUB_URL="+small.url, "OTHER_URL="+other.url, "LARGE_URL="+large.url, "CHROMIUM="+chromium(t),
		"SHOTS="+os.Getenv("FAIRLEAD_CONSOLE_SHOTS"), "ONLY="+os.Getenv("FAIRLEAD_CONSOLE_ONLY"))
	var said, complained bytes.Buffer
	script.Stdout, script.Stderr = &said, &complained
	err := script.Run()
	checks := report(t, &said)
	if err != nil || checks == 0 {
		t.Fatalf("%d checks ran: %v\n%s", checks, err, complained.String())
	}
	t.Logf("%d checks\n%s", checks, complained.String())
}

func chromium(t *testing.T) string {
	t.Helper()
	for name := range strings.FieldsSeq(chromiumNames) {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatalf("no browser: install Debian's package chromium (looked for: %s)", chromiumNames)
	return ""
}

// report makes a subtest of each line of the script and says how many there were.
func report(t *testing.T, said *bytes.Buffer) int {
	t.Helper()
	checks := 0
	for lines := bufio.NewScanner(said); lines.Scan(); {
		outcome, failed := strings.CutPrefix(lines.Text(), "not ok ")
		name, passed := strings.CutPrefix(lines.Text(), "ok ")
		if !failed && !passed {
			continue
		}
		checks++
		if failed {
			name, outcome, _ = strings.Cut(outcome, ": ")
		}
		t.Run(name, func(t *testing.T) {
			if failed {
				t.Error(outcome)
			}
		})
	}
	return checks
}
