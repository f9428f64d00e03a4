package console_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/fairlead-hub/fairlead/commands/console"
)

var served = console.Handler()

func ask(t *testing.T, method, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	served.ServeHTTP(w, r)
	return w
}

func body(t *testing.T, r io.Reader) string {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// base is the address of this version's files, as the page names it.
func base(t *testing.T) string {
	t.Helper()
	found := regexp.MustCompile(`/console/v/[0-9a-f]{16}/`).FindString(body(t, ask(t, "GET", "/console/").Body))
	if found == "" {
		t.Fatal("the page names no versioned address")
	}
	return found
}

func TestRoutesAreThePage(t *testing.T) {
	for _, path := range []string{"/console/", "/console/signin", "/console/devices/pump-7", "/console/devices/a:b_c-1", "/console/commands", "/console/commands/01JD"} {
		got := ask(t, "GET", path)
		if got.Code != http.StatusOK || !strings.HasPrefix(got.Header().Get("Content-Type"), "text/html") {
			t.Errorf("%s: %d %s", path, got.Code, got.Header().Get("Content-Type"))
		}
		if got.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: Cache-Control %q", path, got.Header().Get("Cache-Control"))
		}
	}
}

func TestWhatIsNotThere(t *testing.T) {
	for _, path := range []string{
		"/console/app.js", "/console/index.html", "/console/v/", "/console/v/0000000000000000/app/main.js",
		base(t), base(t) + "app", base(t) + "app/", base(t) + "app/../app/main.js", base(t) + "../../../go.mod", "/elsewhere",
	} {
		if got := ask(t, "GET", path); got.Code != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, got.Code)
		}
	}
	if got := ask(t, "POST", "/console/"); got.Code != http.StatusMethodNotAllowed || got.Header().Get("Allow") == "" {
		t.Errorf("POST: %d", got.Code)
	}
	if got := ask(t, "GET", "/console"); got.Header().Get("Location") != "/console/" {
		t.Errorf("/console leads to %q", got.Header().Get("Location"))
	}
}

func TestContentTypes(t *testing.T) {
	for file, want := range map[string]string{
		"app/main.js":             "text/javascript; charset=utf-8",
		"vendor/preact/preact.js": "text/javascript; charset=utf-8",
		"style/base.css":          "text/css; charset=utf-8",
		"icon.svg":                "image/svg+xml",
		"vendor/preact/LICENSE":   "text/plain; charset=utf-8",
		"vendor/VERSIONS":         "text/plain; charset=utf-8",
	} {
		got := ask(t, "GET", base(t)+file)
		if got.Code != http.StatusOK || got.Header().Get("Content-Type") != want {
			t.Errorf("%s: %d %q, want %q", file, got.Code, got.Header().Get("Content-Type"), want)
		}
		if !strings.Contains(got.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: Cache-Control %q", file, got.Header().Get("Cache-Control"))
		}
	}
}

func TestRevalidation(t *testing.T) {
	for _, path := range []string{"/console/", base(t) + "app/main.js"} {
		for _, encoding := range []string{"", "gzip"} {
			etag := ask(t, "GET", path, "Accept-Encoding", encoding).Header().Get("ETag")
			again := ask(t, "GET", path, "Accept-Encoding", encoding, "If-None-Match", `"other", `+etag)
			if again.Code != http.StatusNotModified || body(t, again.Body) != "" {
				t.Errorf("%s %q with its own etag: %d", path, encoding, again.Code)
			}
			if other := ask(t, "GET", path, "Accept-Encoding", encoding, "If-None-Match", `"other"`); other.Code != http.StatusOK {
				t.Errorf("%s %q with another etag: %d", path, encoding, other.Code)
			}
		}
	}
}

func TestCompression(t *testing.T) {
	path := base(t) + "vendor/uplot/uplot.js"
	plain := ask(t, "GET", path)
	if plain.Header().Get("Content-Encoding") != "" {
		t.Fatal("compressed though not asked to be")
	}
	want := body(t, plain.Body)
	zipped := ask(t, "GET", path, "Accept-Encoding", "br, gzip;q=0.8")
	if zipped.Header().Get("Content-Encoding") != "gzip" || zipped.Header().Get("Vary") != "Accept-Encoding" {
		t.Fatalf("headers %v", zipped.Header())
	}
	reader, err := gzip.NewReader(zipped.Body)
	if err != nil {
		t.Fatal(err)
	}
	if body(t, reader) != want {
		t.Error("decompressed file differs")
	}
	if refused := ask(t, "GET", path, "Accept-Encoding", "gzip;q=0"); refused.Header().Get("Content-Encoding") != "" {
		t.Error("compressed though refused")
	}
	if head := ask(t, "HEAD", path); body(t, head.Body) != "" || head.Header().Get("Content-Length") == "0" {
		t.Error("HEAD has a body or no length")
	}
}

func TestSecurityHeaders(t *testing.T) {
	for _, path := range []string{"/console/", base(t) + "app/main.js", "/console/v/none"} {
		h := ask(t, "GET", path).Header()
		for _, part := range []string{
			"default-src 'self'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self' data:",
			"object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'",
		} {
			if !strings.Contains(h.Get("Content-Security-Policy"), part) {
				t.Errorf("%s: policy without %q", path, part)
			}
		}
		if strings.Contains(h.Get("Content-Security-Policy"), "unsafe") {
			t.Errorf("%s: policy allows something unsafe", path)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: headers %v", path, h)
		}
	}
}

// The page and its modules must not reach for anything beyond the hub, nor hold inline script.
func TestNothingFromElsewhere(t *testing.T) {
	page := body(t, ask(t, "GET", "/console/").Body)
	for _, tag := range regexp.MustCompile(`<script[^>]*>`).FindAllString(page, -1) {
		if !strings.Contains(tag, `src="/console/v/`) {
			t.Errorf("script %s is not one of ours", tag)
		}
	}
	for _, found := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if !strings.HasPrefix(found[1], "/console/v/") {
			t.Errorf("the page refers to %s", found[1])
		}
	}
	if n := strings.Count(page, "modulepreload"); n < 20 {
		t.Errorf("%d modules are preloaded, want all", n)
	}
}
