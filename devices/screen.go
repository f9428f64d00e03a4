package devices

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/fairlead-hub/fairlead/devices/wire"
	"github.com/fairlead-hub/fairlead/internal/problem"
)

// request is what a connect asks for.
type request struct {
	token       string
	codec       wire.Codec
	subprotocol bool   // the client offered one, so it is told which was chosen
	address     string // where it comes from
}

// maxOffered is how many subprotocols a client may offer.
const maxOffered = 8

// screen looks at a request before anything costly is done for it.
func (h *Handler) screen(r *http.Request) (request, *problem.Document) {
	if p := checkUpgrade(r); p != nil {
		return request{}, p
	}
	if p := h.screenAny(r); p != nil {
		return request{}, p
	}
	req, p := offered(r)
	if p != nil {
		return request{}, p
	}
	p = bearer(r, &req)
	return req, p
}

// screenAny looks at what every request of a device has in common.
func (h *Handler) screenAny(r *http.Request) *problem.Document {
	if tokenInQuery(r.URL.RawQuery) {
		return refuse400(refuseQueryToken, "a token in the address ends up in logs").
			WithHint("send it as Authorization: Bearer <JWT>, or as subprotocol bearer.<JWT>")
	}
	for _, origin := range r.Header.Values("Origin") {
		if !h.allowed(origin) {
			return problem.New(http.StatusForbidden, refuseOrigin, "pages of this origin may not connect").
				WithHint("devices send no Origin; for a browser page list it in auth.origins")
		}
	}
	if h.draining() {
		return refuse503(refuseDraining, "this node is shutting down")
	}
	return nil
}

// checkUpgrade reports what is not the upgrade of RFC 6455, section 4.2.1, before the library does.
func checkUpgrade(r *http.Request) *problem.Document {
	switch {
	case r.Method != http.MethodGet, !r.ProtoAtLeast(1, 1), r.ProtoMajor != 1:
		return refuse400(refuseNotWebSocket, "want GET over HTTP/1.1").
			WithHint("connect with a WebSocket client")
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return refuse400(refuseNotWebSocket, "an upgrade has no body")
	case len(r.Header.Values("Sec-WebSocket-Key")) != 1, len(r.Header.Values("Sec-WebSocket-Version")) != 1:
		return refuse400(refuseNotWebSocket, "want one Sec-WebSocket-Key and one Sec-WebSocket-Version").
			WithHint("connect with a WebSocket client")
	}
	return nil
}

// tokenInQuery reports whether the query holds a token: by the name of a parameter, or by its looks.
func tokenInQuery(raw string) bool {
	if raw == "" {
		return false
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return strings.Contains(raw, "eyJ")
	}
	for name, values := range query {
		switch strings.ToLower(name) {
		case "token", "access_token", "jwt", "bearer", "authorization":
			return true
		}
		for _, v := range values {
			if strings.Contains(v, "eyJ") && strings.Count(v, ".") >= 2 {
				return true
			}
		}
	}
	return false
}

// offered reads the list of subprotocols: the first that is known is chosen, and one may carry the token.
func offered(r *http.Request) (request, *problem.Document) {
	req := request{codec: wire.JSON}
	var list []string
	for _, v := range r.Header.Values("Sec-WebSocket-Protocol") {
		list = append(list, strings.Split(v, ",")...)
	}
	if len(list) > maxOffered {
		return req, refuse400(refuseSubprotocol, "too many subprotocols")
	}
	known, others := false, 0
	for _, name := range list {
		name = strings.Trim(name, " \t")
		token, isBearer := strings.CutPrefix(name, wire.BearerPrefix)
		switch {
		case name == "" || strings.ContainsAny(name, " \t\"(),/:;<=>?@[\\]{}"):
			return req, refuse400(refuseSubprotocol, "a subprotocol is empty or holds separators")
		case isBearer && req.token != "":
			return req, refuse400(refuseTwoTokens, "two tokens")
		case isBearer:
			req.token = token
		case known:
		default:
			if req.codec, known = wire.CodecOf(name); !known {
				others++
			}
			req.subprotocol = known
		}
	}
	if !known && others > 0 {
		return req, refuse400(refuseSubprotocol, "none of the offered subprotocols is known").
			WithHint("offer " + wire.SubprotocolJSON + ", or another one of docs/device-protocol.md")
	}
	return req, nil
}

// bearer reads the Authorization header. A missing token is for the verifier to refuse.
func bearer(r *http.Request, req *request) *problem.Document {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return nil
	}
	if len(values) > 1 || req.token != "" {
		return refuse400(refuseTwoTokens, "two tokens")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if strings.EqualFold(scheme, "Bearer") {
		req.token = strings.TrimSpace(token)
	}
	return nil
}
