package main_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
)

// Behind a trusted proxy the audit log tells where the operator is, not the proxy; what anybody else writes into the header
// does not count.
func TestAuditTellsWhoIsBehindTheProxy(t *testing.T) {
	t.Parallel()
	h := serve(t, strings.Replace(loopback, "devices: {", `devices: {trusted_proxies: ["127.0.0.2/32"], `, 1))
	for _, c := range []struct{ from, header, want string }{
		{"127.0.0.2", "203.0.113.9", "203.0.113.9"},
		{"127.0.0.2", "198.51.100.1, 2001:db8::7", "2001:db8::7"}, // the first was written by the operator
		{"127.0.0.2", "", "127.0.0.2"},
		{"127.0.0.1", "203.0.113.9", "127.0.0.1"},
	} {
		h.changeFrom(t, c.from, c.header)
		var audit struct {
			Records []struct{ Action, Target, Remote string }
		}
		h.ask(t, "GET", "/audit?limit=1", nil, &audit)
		if len(audit.Records) != 1 || audit.Records[0].Target != "nobody" || audit.Records[0].Remote != c.want {
			t.Errorf("from %s by %q: %+v, want remote %s", c.from, c.header, audit.Records, c.want)
		}
	}
	h.stop()
}

// changeFrom asks from one of the machine's addresses for a change of a device that is not there.
func (h *hub) changeFrom(t *testing.T, from, forwarded string) {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: waitBound}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: h.trust(t), DialContext: dialer.DialContext, DisableKeepAlives: true}, Timeout: waitBound}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, h.URL+"/api/v1/devices/nobody", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+h.AdminToken)
	if forwarded != "" {
		req.Header.Set("X-Forwarded-For", forwarded)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Fatalf("DELETE from %s: %s", from, res.Status)
	}
}
