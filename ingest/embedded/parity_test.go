package embedded_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-hub/fairlead/internal/influxtest"
)

// call is one request that both stores get, in the order of the corpus: later ones see what earlier ones stored.
type call struct {
	name   string
	method string
	path   string
	params url.Values
	body   string
	gzip   bool
	header map[string]string
	auth   string // "", token, none, basic, params, wrong
	// differs says why the answers are not the same; then want holds ours.
	differs string
	want    answer
}

type answer struct {
	status int
	body   string
}

// TestSameAnswersAsInfluxd sends one corpus to the real influxd and to the embedded store and compares status, body
// and content type.
func TestSameAnswersAsInfluxd(t *testing.T) {
	real := influxtest.Start(t, influxtest.Options{Auth: true, Database: bucket})
	ours := start(t, options(t.TempDir()))
	n, different := 0, 0
	for _, c := range corpus() {
		t.Run(c.name, func(t *testing.T) {
			want := send(t, real.URL, influxtest.User, influxtest.Password, c)
			got := send(t, ours.url, "anyone", token, c)
			n++
			if c.differs == "" {
				if got != want {
					t.Errorf("ours   %d %s\ninfluxd %d %s", got.status, got.body, want.status, want.body)
				}
				return
			}
			different++
			if got == want {
				t.Errorf("said to differ (%s), but both answer %d %s", c.differs, got.status, got.body)
			}
			if got != c.want {
				t.Errorf("got %d %s, want %d %s", got.status, got.body, c.want.status, c.want.body)
			}
		})
	}
	t.Logf("requests=%d same=%d documented_differences=%d", n, n-different, different)
	sameContents(t, real, ours)
}

// sameContents compares everything that the corpus stored.
func sameContents(t *testing.T, real *influxtest.Server, ours *hub) {
	t.Helper()
	for _, q := range []string{"SELECT * FROM /.*/", "SHOW SERIES", "SHOW FIELD KEYS"} {
		want, got := fmt.Sprint(real.MustQuery(q)), fmt.Sprint(ours.query(q))
		if got != want {
			t.Errorf("%s:\nours    %s\ninfluxd %s", q, got, want)
		}
		if len(want) < 100 {
			t.Errorf("%s: the corpus stored next to nothing: %s", q, want)
		}
	}
}

func send(t *testing.T, base, user, password string, c call) answer {
	t.Helper()
	params := maps.Clone(c.params)
	if params == nil {
		params = url.Values{}
	}
	if c.auth == "params" {
		params.Set("u", user)
		params.Set("p", password)
	}
	body := []byte(c.body)
	if c.gzip {
		body = compress(t, body)
	}
	target := base + c.path
	if len(params) > 0 {
		target += "?" + params.Encode()
	}
	req, err := http.NewRequest(c.method, target, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	authorize(req, c.auth, user, password)
	if c.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	for k, v := range c.header {
		req.Header.Set(k, v)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	// The servers name themselves, and influxd logs in under its own user name.
	text := strings.ReplaceAll(string(data), "1.8.10-fairlead", "1.8.10")
	text = strings.ReplaceAll(text, `"version":"unknown"`, `"version":"1.8.10"`)
	return answer{res.StatusCode, text + contentType(res)}
}

// contentType counts for bodies only: influxd names one for an empty body too.
func contentType(res *http.Response) string {
	kind, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	if res.StatusCode == http.StatusNoContent || res.Request.URL.Path == "/health" || res.Request.URL.Path == "/ping" {
		return ""
	}
	return kind
}

func authorize(r *http.Request, how, user, password string) {
	switch how {
	case "", "token":
		r.Header.Set("Authorization", "Token "+user+":"+password)
	case "basic":
		r.SetBasicAuth(user, password)
	case "wrong":
		r.Header.Set("Authorization", "Token "+user+":not-"+password)
	case "wrong basic":
		r.SetBasicAuth(user, "not-"+password)
	case "bearer":
		r.Header.Set("Authorization", "Bearer "+base64.RawURLEncoding.EncodeToString([]byte(password)))
	case "bare token":
		r.Header.Set("Authorization", "Token "+password)
	case "good bearer":
		r.Header.Set("Authorization", "Bearer "+password)
	case "garbage":
		r.Header.Set("Authorization", "Digest xyz")
	}
}

func compress(t *testing.T, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func corpus() []call {
	return slices.Concat(servers(), credentials(), writes(), precisions(), badLines(), queries(), grafana(), changes())
}

func v2(extra ...string) url.Values { return values("bucket", bucket, extra...) }
func v1(extra ...string) url.Values { return values("db", bucket, extra...) }

func values(k, v string, extra ...string) url.Values {
	u := url.Values{k: {v}}
	for i := 0; i < len(extra); i += 2 {
		u.Set(extra[i], extra[i+1])
	}
	return u
}
