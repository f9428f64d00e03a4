package broker

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Devices are the devices that may connect with a token of their own as the password.
type Devices struct {
	// Admit says who a client is that shows a token, or refuses it with a *Refusal.
	Admit  func(ctx context.Context, token string, from netip.Addr) (Identity, error)
	Topics Topics
	// Subscribed hears that a device may be sent what filter covers.
	Subscribed func(device, filter string)
	// Denied hears what a device's client was refused: to publish payload to a topic, or to subscribe.
	Denied func(device, what string, payload []byte)
	// Ended hears why a device's client was sent away.
	Ended func(device, cause, reason string)
}

// Topics says which topics are a device's. It is asked for each message.
type Topics interface {
	MayPublish(device, topic string) bool
	MaySubscribe(device, filter string) bool
	MayRead(device, topic string) bool
}

// Identity is who a client is that has shown a device's token.
type Identity struct {
	Device string
	Until  time.Time    // the token is good until then
	Still  func() error // why the token is good no longer, apart from its time; nil: it is
}

// Refusal is why a client is not let in. Status is what HTTP would answer: 401, 403, 429 or 503.
type Refusal struct {
	Status int
	Reason string // told to clients that speak MQTT 5
}

// Error returns the reason.
func (r *Refusal) Error() string { return r.Reason }

// code is the refusal as a CONNACK tells it; MQTT 3 has five numbers and no reasons.
func (r *Refusal) code(version byte) packets.Code {
	v5, v3 := packets.ErrServerUnavailable, packets.Err3ServerUnavailable
	switch r.Status {
	case http.StatusUnauthorized:
		v5, v3 = packets.ErrBadUsernameOrPassword, packets.ErrMalformedUsernameOrPassword
	case http.StatusForbidden:
		v5, v3 = packets.ErrNotAuthorized, packets.Err3NotAuthorized
	case http.StatusTooManyRequests:
		v5 = packets.ErrConnectionRateExceeded
	}
	if version < 5 {
		return v3
	}
	return packets.Code{Code: v5.Code, Reason: r.Reason}
}

// LetIn has the broker take clients that show a device's token. It is called before Run.
func (b *Broker) LetIn(d Devices) { b.hook.devices = &d }

// tokenNames are the user names, beside a device's id, with which a token may be shown: none, and what clients send that must
// send one (Google IoT Core had its devices send "unused").
var tokenNames = []string{"", "token", "unused"}

// isToken tells whether a client shows a device's token, and not the site's password.
func (h *hook) isToken(pk packets.Packet) bool {
	if h.devices == nil || h.isSite(pk) {
		return false
	}
	site := h.user.isNamed(pk.Connect.Username) && !h.tokensOnly
	return !site || strings.Count(string(pk.Connect.Password), ".") == 2 // a device may have the site's name for its id
}

func (h *hook) isSite(pk packets.Packet) bool {
	return !h.tokensOnly && h.user.matches(pk.Connect.Username, pk.Connect.Password)
}

// admit lets a client in as a device, or tells it why not. Its session gets a name that only clients of that device have, so that
// whoever uses another one's client id has a session of its own under it.
func (h *hook) admit(cl *mqtt.Client, pk packets.Packet) error {
	conn, ok := cl.Net.Conn.(*timedConn)
	if !ok {
		return errors.New("not a connection of the listener")
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	from, _ := netip.ParseAddrPort(cl.Net.Remote) // an address that is none has no limit of its own
	who, err := h.devices.Admit(ctx, string(pk.Connect.Password), from.Addr())
	if err == nil {
		err = h.checkConnect(who.Device, pk)
	}
	if err != nil {
		return h.refuse(cl, err)
	}
	conn.member = &member{Identity: who, cl: cl}
	cl.ID = sessionOf(who.Device) + cl.ID
	return nil
}

// checkConnect refuses what a device may not say at connect.
func (h *hook) checkConnect(device string, pk packets.Packet) error {
	name := string(pk.Connect.Username)
	named := name == device
	for _, n := range tokenNames {
		named = named || name == n
	}
	switch {
	case !named:
		return &Refusal{http.StatusUnauthorized, "the user name is not that of the token's device; use " + device + ", token, or none"}
	case pk.Connect.WillFlag && !h.devices.Topics.MayPublish(device, pk.Connect.WillTopic):
		h.m.refused.WithLabelValues(refusedWill).Inc()
		h.devices.Denied(device, pk.Connect.WillTopic, pk.Connect.WillPayload)
		return &Refusal{http.StatusForbidden, "the will's topic is not one of " + device}
	}
	return nil
}

func (h *hook) refuse(cl *mqtt.Client, err error) error {
	var r *Refusal
	if !errors.As(err, &r) {
		r = &Refusal{http.StatusServiceUnavailable, "the token could not be checked"}
	}
	h.m.refused.WithLabelValues(refusedAuth).Inc()
	h.Log.Debug("mqtt client refused", "err", err, "remote", cl.Net.Remote)
	return errors.Join(err, h.server.SendConnack(cl, r.code(cl.Properties.ProtocolVersion), false, nil))
}

// Between a device's id and a client id, in the name of a session: no client id holds it [MQTT-1.5.3-2].
const sessionMark = "\x00"

// sessionOf is how the names of a device's sessions begin.
func sessionOf(device string) string { return device + sessionMark }

// deviceLevel is the first level of a topic under which the hub is handed what a device published.
const deviceLevel = "$device"

// Author parts the topic under which the hub is handed a message: which device published it, and where. Who has the site's
// login is no device. Nobody can publish below "$", and the hub gets nothing from there.
func Author(topic string) (device, original string) {
	rest, ok := strings.CutPrefix(topic, deviceLevel+"/")
	if !ok {
		return "", topic
	}
	device, original, _ = strings.Cut(rest, "/")
	return device, original
}

// authored is the topic under which the hub is handed a message from a session.
func authored(session, topic string) string {
	device, _, ok := strings.Cut(session, sessionMark)
	if !ok {
		return topic
	}
	return deviceLevel + "/" + device + "/" + topic
}
