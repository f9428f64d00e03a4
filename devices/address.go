package devices

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// proxies are the ranges of addresses whose X-Forwarded-For is believed.
type proxies []netip.Prefix

func parseProxies(list []string) (proxies, error) {
	out := make(proxies, 0, len(list))
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("trusted proxies: %w", err)
		}
		out = append(out, p)
	}
	return out, nil
}

func (p proxies) trust(a netip.Addr) bool {
	for _, prefix := range p {
		if prefix.Contains(a) {
			return true
		}
	}
	return false
}

// remote is where a request comes from: the peer, or, if that is a trusted proxy, the last address of X-Forwarded-For
// that no trusted proxy has. What stands before it anybody may have written. Proxies mostly tell no port; it is 0 then.
func (p proxies) remote(r *http.Request) netip.AddrPort {
	peer := parseRemote(r.RemoteAddr)
	if len(p) == 0 || !p.trust(peer.Addr()) {
		return peer
	}
	lines := r.Header.Values("X-Forwarded-For")
	for i := len(lines) - 1; i >= 0; i-- {
		hops := strings.Split(lines[i], ",")
		for j := len(hops) - 1; j >= 0; j-- {
			at := parseRemote(strings.TrimSpace(hops[j]))
			if !at.IsValid() {
				return peer
			}
			if peer = at; !p.trust(at.Addr()) {
				return at
			}
		}
	}
	return peer
}

// Address is who a request is counted against: where it comes from, of IPv6 the network.
func (h *Handler) Address(r *http.Request) netip.Addr { return addressKey(h.proxies.remote(r).Addr()) }

// Remote is where a request comes from, as it is told to people; without the port.
func (h *Handler) Remote(r *http.Request) string {
	a := h.proxies.remote(r).Addr()
	if !a.IsValid() {
		return r.RemoteAddr
	}
	return a.String()
}

// parseRemote reads an address with or without a port.
func parseRemote(text string) netip.AddrPort {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
	}
	a, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Unmap().WithZone(""), 0)
}

// addressText is how an address is told.
func addressText(a netip.AddrPort) string {
	switch {
	case !a.IsValid():
		return ""
	case a.Port() == 0:
		return a.Addr().String()
	}
	return a.String()
}

// ipv6Host is how much of an IPv6 address names a site: whoever has one address has all of its network.
const ipv6Host = 64

// addressKey is whom the limits of an address count for.
func addressKey(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(ipv6Host)
	if err != nil {
		return a
	}
	return p.Addr()
}
