package devices

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/fairlead-hub/fairlead/configs"
	"github.com/fairlead-hub/fairlead/internal/problem"
)

// binding says which certificate a device's connection must be made with. The listener has verified it, also when the
// connection resumes an earlier one: the ticket holds it.
type binding struct {
	mode  string   // configs.BindOff, BindMatch or BindRequire; "" is off
	names []string // cn, dns, dns:SUFFIX, uri:PREFIX
}

func newBinding(c configs.Devices) binding { return binding{c.BindCertificate, c.CertificateNames} }

// check refuses a device whose connection was made with the certificate of another one.
func (b *binding) check(state *tls.ConnectionState, device string) *problem.Document {
	if b.mode == "" || b.mode == configs.BindOff {
		return nil
	}
	if state == nil || len(state.PeerCertificates) == 0 {
		if b.mode == configs.BindMatch {
			return nil
		}
		return problem.New(http.StatusForbidden, refuseNoCertificate, "the connection was made without a client certificate").
			WithHint("connect with the device's certificate, issued by a CA of tls.client_ca_file")
	}
	found := b.found(state.PeerCertificates[0])
	if slices.Contains(found, device) {
		return nil
	}
	says := "no device"
	if len(found) > 0 {
		says = clip(fmt.Sprintf("%q", found))
	}
	return problem.New(http.StatusForbidden, refuseCertificate, fmt.Sprintf("the token is of %q, and the client certificate names %s", device, says)).
		WithHint("use the certificate and the token of one device; devices.certificate_names says where the name is looked for")
}

// found are the devices that a certificate names.
func (b *binding) found(cert *x509.Certificate) (ids []string) {
	for _, n := range b.names {
		kind, rest, _ := strings.Cut(n, ":")
		switch kind {
		case "cn":
			if cn := cert.Subject.CommonName; cn != "" {
				ids = append(ids, cn)
			}
		case "dns":
			for _, name := range cert.DNSNames {
				if id, ok := strings.CutSuffix(name, rest); ok {
					ids = append(ids, id)
				}
			}
		case "uri":
			for _, u := range cert.URIs {
				if id, ok := strings.CutPrefix(u.String(), rest); ok {
					ids = append(ids, id)
				}
			}
		}
	}
	return ids
}
