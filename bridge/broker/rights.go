package broker

import (
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// notItsOwn is put in the place of a filter that is not the device's, so that mochi refuses it. It is no filter.
const notItsOwn = "#/own"

// memberOf is the device whose client it is, or nil.
func memberOf(cl *mqtt.Client) *member {
	if conn, ok := cl.Net.Conn.(*timedConn); ok {
		return conn.member
	}
	return nil
}

// mayPublish tells whether the client may publish pk. What MQTT has no answer for ends the connection: at QoS 0, and in MQTT 3
// at any; else OnACLCheck has mochi refuse the message in its acknowledgement.
func (h *hook) mayPublish(cl *mqtt.Client, pk packets.Packet) bool {
	m := memberOf(cl)
	if m == nil {
		return true
	}
	conn := cl.Net.Conn.(*timedConn)
	conn.denied = !h.devices.Topics.MayPublish(m.Device, pk.TopicName)
	if !conn.denied {
		return true
	}
	h.m.refused.WithLabelValues(refusedPublish).Inc()
	h.devices.Denied(m.Device, pk.TopicName, pk.Payload)
	if cl.Properties.ProtocolVersion >= 5 && pk.FixedHeader.Qos > 0 {
		return true
	}
	h.disconnect(cl, packets.Code{Code: packets.ErrNotAuthorized.Code, Reason: "not a topic of " + m.Device + ": " + pk.TopicName})
	return false
}

// OnACLCheck lets everybody but devices read and write everywhere, and nobody write below "$". mochi asks before each delivery,
// so here a message is not handed to a client for which too much waits, nor to a device whose it is no longer.
func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	conn, ok := cl.Net.Conn.(*timedConn)
	device := ok && conn.member != nil
	if write {
		return !reserved(topic) && (!device || !conn.denied)
	}
	if device && !conn.subscribing.Load() && !h.devices.Topics.MayRead(conn.member.Device, topic) {
		return false
	}
	return h.hasRoom(cl)
}

// ownFilter tells whether filter is the client's to subscribe to.
func (h *hook) ownFilter(conn *timedConn, filter string) bool {
	if conn.member == nil || h.devices.Topics.MaySubscribe(conn.member.Device, filter) {
		return true
	}
	h.m.refused.WithLabelValues(refusedRead).Inc()
	h.devices.Denied(conn.member.Device, "subscribe "+filter, nil)
	return false
}

// granted tells what a device has subscribed to.
func (h *hook) granted(m *member, pk packets.Packet, codes []byte) {
	for i, sub := range pk.Filters {
		if codes[i] <= packets.CodeGrantedQos2.Code {
			h.devices.Subscribed(m.Device, sub.Filter)
		}
	}
}
