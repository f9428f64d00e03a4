package api_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/fairlead-hub/fairlead/commands/api"
)

// shapes holds answers against the OpenAPI document.
type shapes struct {
	doc      map[string]any
	mu       sync.Mutex
	compiler *jsonschema.Compiler // guarded by mu
	routes   *http.ServeMux
}

const docURL = "mem:///openapi.json"

func document(t *testing.T, a *api.API) map[string]any {
	t.Helper()
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/openapi.json", nil))
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(w.Body.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	return doc.(map[string]any)
}

func newShapes(t *testing.T, a *api.API) *shapes {
	t.Helper()
	doc := document(t, a)
	seal(doc["components"])
	seal(doc["paths"])
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource(docURL, doc); err != nil {
		t.Fatal(err)
	}
	s := &shapes{doc: doc, compiler: c, routes: http.NewServeMux()}
	for path := range doc["paths"].(map[string]any) {
		s.routes.Handle(path, http.NotFoundHandler())
	}
	return s
}

// seal makes every object schema refuse what it does not list, which the published document does not, so that an
// answer with a field that nobody wrote down fails here.
func seal(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, has := v["properties"]; has && v["type"] == "object" {
			v["additionalProperties"] = false
		}
		for _, child := range v {
			seal(child)
		}
	case []any:
		for _, child := range v {
			seal(child)
		}
	}
}

func pointer(parts ...string) string {
	for i, p := range parts {
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(p, "~", "~0"), "/", "~1")
	}
	return docURL + "#/" + strings.Join(parts, "/")
}

func (s *shapes) check(t *testing.T, a *answer, path string) {
	t.Helper()
	method, _, _ := strings.Cut(a.what, " ")
	_, pattern := s.routes.Handler(httptest.NewRequest(http.MethodGet, "http://x"+strings.ReplaceAll(path, " ", "%20"), nil))
	item, _ := s.doc["paths"].(map[string]any)[pattern].(map[string]any)
	op, _ := item[strings.ToLower(method)].(map[string]any)
	kind := a.header.Get("Content-Type")
	if op == nil || kind == "application/problem+json" {
		if strings.HasPrefix(path, "/api/v1") || kind == "application/problem+json" {
			s.validate(t, a, pointer("components", "schemas", "Problem"))
		}
		return
	}
	status := strconv.Itoa(a.status)
	resp, ok := op["responses"].(map[string]any)[status].(map[string]any)
	if !ok {
		t.Errorf("%s: status %s is not in the document", a.what, status)
		return
	}
	content, _ := resp["content"].(map[string]any)
	if content == nil {
		if len(a.raw) > 0 {
			t.Errorf("%s: a body that is not in the document: %s", a.what, a.raw)
		}
		return
	}
	s.validate(t, a, pointer("paths", pattern, strings.ToLower(method), "responses", status, "content", kind, "schema"))
}

func (s *shapes) validate(t *testing.T, a *answer, at string) {
	t.Helper()
	s.mu.Lock()
	schema, err := s.compiler.Compile(at)
	s.mu.Unlock()
	if err != nil {
		t.Errorf("%s: no schema at %s: %v", a.what, at, err)
		return
	}
	values := [][]byte{a.raw}
	if a.header.Get("Content-Type") == "application/x-ndjson" {
		values = bytes.FieldsFunc(a.raw, func(r rune) bool { return r == '\n' })
	}
	for _, raw := range values {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err == nil {
			err = schema.Validate(v)
		}
		if err != nil {
			t.Errorf("%s: the answer is not what the document says: %v\n%s", a.what, err, raw)
		}
	}
}

// operations lists METHOD path with the names of its query parameters.
func operations(t *testing.T, doc map[string]any) map[string]string {
	t.Helper()
	out := map[string]string{}
	for path, item := range doc["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			if method == "parameters" {
				continue
			}
			op := op.(map[string]any)
			var query []string
			list, _ := op["parameters"].([]any)
			for _, p := range list {
				p := p.(map[string]any)
				if ref, ok := p["$ref"].(string); ok {
					name := ref[strings.LastIndexByte(ref, '/')+1:]
					p = doc["components"].(map[string]any)["parameters"].(map[string]any)[name].(map[string]any)
				}
				if p["in"] == "query" {
					query = append(query, p["name"].(string))
				}
			}
			sort.Strings(query)
			out[strings.ToUpper(method)+" "+path] = fmt.Sprint(op["operationId"], query)
		}
	}
	return out
}

func TestDocumentIsWhatIsServed(t *testing.T) {
	h := start(t)
	want := map[string]string{}
	for _, r := range h.api.Routes() {
		query := slices.Clone(r.Query)
		sort.Strings(query)
		want[r.Method+" "+r.Path] = fmt.Sprint(r.Name, query)
	}
	got := operations(t, document(t, h.api))
	for op, is := range want {
		if got[op] != is {
			t.Errorf("%s: document says %q, served is %q", op, got[op], is)
		}
	}
	for op := range got {
		if want[op] == "" {
			t.Errorf("%s is in the document and not served", op)
		}
	}
}

func TestPartsThatAreNotThereAreNotInTheDocument(t *testing.T) {
	h := start(t, func(o *api.Options) {
		o.History, o.Twin, o.Bridge, o.Nodes, o.Trace, o.Deadletters = nil, nil, nil, nil, nil, nil
		o.Leases, o.Approver, o.Jobs, o.Types = nil, nil, nil, nil
		o.Enrollments, o.Transfer, o.DeviceKeys = nil, nil, nil
	})
	ops := operations(t, document(t, h.api))
	for _, path := range []string{
		"GET /api/v1/devices/{id}/telemetry", "GET /api/v1/devices/{id}/state", "PATCH /api/v1/devices/{id}/state/desired",
		"GET /api/v1/devices/{id}/trace", "GET /api/v1/deadletters", "POST /api/v1/deadletters/replay", "GET /api/v1/types", "GET /api/v1/bridge", "GET /api/v1/nodes",
		"GET /api/v1/jobs", "POST /api/v1/jobs/{id}/pause", "POST /api/v1/devices/{id}/lease", "POST /api/v1/commands/{id}/approve",
		"GET /api/v1/enrollments", "GET /api/v1/export/devices", "POST /api/v1/keys",
	} {
		if _, ok := ops[path]; ok {
			t.Errorf("%s is in the document of a hub without it", path)
		}
		method, where, _ := strings.Cut(path, " ")
		h.call(h.admin(), method, strings.ReplaceAll(where, "{id}", "pump-7"), nil).refused(http.StatusNotFound, "not_found")
	}
	if _, ok := ops["GET /api/v1/devices/{id}"]; !ok {
		t.Error("devices left the document too")
	}
}

// strays are the keys without a value. YAML makes one of what follows a comma in a text without quotes, and the rest of the
// text is lost.
func strays(at string, v any) (out []string) {
	switch v := v.(type) {
	case map[string]any:
		for key, child := range v {
			out = append(out, strays(at+"/"+key, child)...)
		}
	case []any:
		for i, child := range v {
			out = append(out, strays(at+"/"+strconv.Itoa(i), child)...)
		}
	case nil:
		out = append(out, at)
	}
	return out
}

func TestDocumentHasNoStrayKeys(t *testing.T) {
	h := start(t)
	for _, at := range strays("", document(t, h.api)) {
		t.Errorf("%s has no value: put the text into quotes", at)
	}
	if got := strays("", map[string]any{"a": []any{map[string]any{"b c": nil, "d": "e"}}}); len(got) != 1 || got[0] != "/a/0/b c" {
		t.Errorf("found %q", got)
	}
}

func TestEverySchemaCompiles(t *testing.T) {
	h := start(t)
	for name := range h.shapes.doc["components"].(map[string]any)["schemas"].(map[string]any) {
		if _, err := h.shapes.compiler.Compile(pointer("components", "schemas", name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A document that nobody could break proves nothing: an answer with a field too many must be found.
func TestShapesAreChecked(t *testing.T) {
	h := start(t)
	spy := &testing.T{}
	bad := &answer{what: "GET /api/v1/nodes", status: 200, header: http.Header{"Content-Type": {"application/json"}}, raw: []byte(`{"nodes":[],"surprise":1}`)}
	h.shapes.check(spy, bad, "/api/v1/nodes")
	if !spy.Failed() {
		t.Error("an answer with an unknown field passed")
	}
}
