package api_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/commands/api"
)

// enrolls are enrollments that know one device, which waits.
type enrolls struct{ f *fleet }

func (f *fleet) enrolls() enrolls { return enrolls{f} }

func (enrolls) Create(_ context.Context, n api.NewEnrollment) (api.Enrollment, string, error) {
	return api.Enrollment{ID: "e1", Labels: map[string]string{}, MaxDevices: n.MaxDevices, Actor: n.Actor, Created: 1, Expires: n.TTL.Milliseconds()}, "e1.SECRET", nil
}

func (enrolls) List(context.Context) ([]api.Enrollment, error) { return nil, nil }

func (enrolls) Delete(_ context.Context, id string) error {
	if id != "e1" {
		return api.ErrEnrollmentNotFound
	}
	return nil
}

func (e enrolls) Pending(context.Context, api.Page) (api.DevicePage, error) {
	d, err := e.f.Find(context.Background(), "pump-8")
	d.Pending, d.Enrolled = true, "e1"
	return api.DevicePage{Devices: []api.Device{d}}, err
}

func (e enrolls) Approve(ctx context.Context, id, device string) (api.Device, error) {
	if id != "e1" {
		return api.Device{}, api.ErrNotPending
	}
	return e.f.Find(ctx, device)
}

// records are the fleet's, in and out.
type records struct{ f *fleet }

func (r records) Export(_ context.Context, q api.DeviceQuery, each func(api.DeviceRecord) bool) error {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	var ids []string
	for id, d := range r.f.devices {
		if q.Match(d.Labels) {
			ids = append(ids, id)
		}
	}
	sort.Strings(ids)
	for _, id := range ids {
		if d := r.f.devices[id]; !each(api.DeviceRecord{ID: id, Labels: d.Labels, Created: &d.Created}) {
			break
		}
	}
	return nil
}

func (r records) Import(_ context.Context, all []api.DeviceRecord) []api.Imported {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	out := make([]api.Imported, len(all))
	for i, d := range all {
		_, known := r.f.devices[d.ID]
		out[i] = api.Imported{Made: !known, Changed: known}
		r.f.devices[d.ID] = api.Device{ID: d.ID, Labels: d.Labels, Created: 1}
	}
	return out
}

// signers are two keys.
type signers struct{}

func (*signers) List() []api.HubKey {
	return []api.HubKey{{KID: "hub-new", Kind: api.DeviceKeys, Alg: "EdDSA", Created: 2, Mints: true}, {KID: "hub-old", Kind: api.DeviceKeys, Alg: "EdDSA", Created: 1}}
}

func (s *signers) Rotate() (api.HubKey, error) { return s.List()[0], nil }

func (*signers) Remove(kid string) error {
	switch kid {
	case "hub-new":
		return api.ErrHubKeyMints
	case "hub-old":
		return nil
	}
	return api.ErrHubKeyNotFound
}

func (*signers) Reload() error { return nil }

func TestImportTellsEachLine(t *testing.T) {
	h := start(t)
	admin := h.admin()
	var rep struct {
		Lines, Created, Updated, Failed int
		Errors                          []api.ImportError
	}
	body := strings.Join([]string{
		`{"id":"a","labels":{"site":"plant-7"}}`,
		``,
		`{"id":"b","colour":"red"}`,
		`{"id":"a b"}`,
		`not json`,
		`{"id":"c","labels":{"a b":"c"}}`,
		`{"id":"d","keys":[{"kid":"k"}]}`,
		`{"id":"pump-7","labels":{"site":"plant-7"}}`,
		`{"id":"e","labels":{"x":"1"},"labels":{"x":"2"}}`,
		`{"id":"f","expect_every":"5 minutes"}`,
		`{"id":"g","created":-1}`,
		`{"id":"h","tokens_not_before":-1}`,
	}, "\n") + "\n"
	h.call(admin, "POST", "/api/v1/import/devices", body).want(200).into(&rep)
	if rep.Lines != 11 || rep.Created != 1 || rep.Updated != 1 || rep.Failed != 9 {
		t.Fatalf("%+v", rep)
	}
	want := []string{
		"3 b unknown_field colour", "4 a b invalid_id id", "5  invalid_json ", "6 c invalid_label labels.a b", "7 d invalid_key keys[0].public_key",
		"9 e duplicate_field labels", "10 f invalid_duration expect_every", "11 g invalid_time created", "12 h invalid_time tokens_not_before",
	}
	for i, e := range rep.Errors {
		if got := fmt.Sprintf("%d %s %s %s", e.Line, e.ID, e.Code, e.Path); i >= len(want) || got != want[i] || e.Detail == "" {
			t.Errorf("%q, %q", got, e.Detail)
		}
	}
	h.call(admin, "POST", "/api/v1/import/devices", strings.Repeat("{}\n", api.MaxImportLines+1)).refused(400, "too_many_lines")
	as := func(kind string) *answer {
		return h.send("POST", "/api/v1/import/devices", `{"id":"z"}`, func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+admin)
			r.Header.Set("Content-Type", kind)
		})
	}
	as("Application/X-NDJSON ; charset=utf-8").want(200) // upper and lower case are one [RFC9110 8.3.1]
	as("text/csv").refused(415, "unsupported_media_type")
	// Who is bound to a part of the fleet imports into that part only, and exports only that.
	bound := h.operator("bound", api.Admin, "site=plant-7")
	h.call(bound, "POST", "/api/v1/import/devices", strings.Join([]string{
		`{"id":"mine","labels":{"site":"plant-7"}}`, `{"id":"theirs","labels":{"site":"plant-8"}}`, `{"id":"none"}`,
		`{"id":"pump-8","labels":{"site":"plant-7"}}`, `{"id":"pump-7","labels":{"site":"plant-8"}}`,
	}, "\n")).want(200).into(&rep)
	codes := ""
	for _, e := range rep.Errors {
		codes += fmt.Sprintf("%d %s;", e.Line, e.Code)
	}
	if rep.Created != 1 || codes != "2 out_of_scope;3 out_of_scope;4 device_exists;5 out_of_scope;" {
		t.Fatalf("%+v", rep)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(h.call(bound, "GET", "/api/v1/export/devices", nil).want(200).raw)), "\n") {
		var d api.DeviceRecord
		if err := json.Unmarshal([]byte(line), &d); err != nil || d.Labels["site"] != "plant-7" {
			t.Errorf("%s, %v", line, err)
		}
	}
}

// A new operator key signs from now on, at a running hub and at others that share the directory; what the old one signed
// is good until that key is removed.
func TestOperatorKeysRotate(t *testing.T) {
	b := openBus(t)
	dir := filepath.Join(t.TempDir(), "keys")
	one, two := startOn(t, b, dir), startOn(t, b, dir)
	before := one.admin()
	var made, list struct {
		api.HubKey
		Keys []api.HubKey
	}
	one.call(before, "POST", "/api/v1/keys", object{"kind": "operator"}).want(201).into(&made)
	after := one.admin()
	if header := strings.SplitN(after, ".", 2)[0]; !strings.Contains(decoded(t, header), made.KID) {
		t.Fatal("the new key does not sign")
	}
	for _, h := range []*hub{one, two} {
		h.call(before, "GET", "/api/v1/devices", nil).want(200)
		h.call(after, "GET", "/api/v1/devices", nil).want(200)
	}
	one.call(after, "GET", "/api/v1/keys", nil).want(200).into(&list)
	old := ""
	for _, k := range list.Keys {
		if k.Kind == api.OperatorKeys && !k.Mints {
			old = k.KID
		}
	}
	one.call(after, "DELETE", "/api/v1/keys/"+made.KID, nil).refused(http.StatusConflict, "hub_key_in_use")
	one.call(after, "DELETE", "/api/v1/keys/nobody", nil).refused(http.StatusNotFound, "hub_key_not_found")
	one.call(after, "POST", "/api/v1/keys", object{"kind": "other"}).refused(http.StatusBadRequest, "invalid_kind")
	one.call(after, "DELETE", "/api/v1/keys/"+old, nil).want(http.StatusNoContent)
	one.call(before, "GET", "/api/v1/devices", nil).refused(http.StatusUnauthorized, "unauthenticated")
	one.call(after, "GET", "/api/v1/devices", nil).want(200)
	files, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	// A key that came without the file being newer does not take over.
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(dir, "zzz.pem")
	if err := os.WriteFile(stale, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(stale, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	keys, err := api.OpenKeys(dir)
	if err != nil || keys.List()[0].KID != made.KID || !keys.List()[0].Mints {
		t.Fatalf("%+v, %v", keys.List(), err)
	}
}

func decoded(t *testing.T, part string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
