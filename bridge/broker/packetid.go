package broker

import (
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// A client's packet ids and those of the broker are independent of each other [MQTT-2.3.1]. mochi keeps both in one map. What
// is here keeps apart what it mixes up.

// hidePacketID keeps mochi from looking the packet id of a SUBSCRIBE or UNSUBSCRIBE up among the messages on their way to the
// client: it would refuse the one, and not do the other. OnPacketEncode puts it into the answer.
func hidePacketID(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if conn, ok := cl.Net.Conn.(*timedConn); ok && pk.PacketID > 0 { // without one it is malformed
		conn.asked = pk.PacketID
		pk.PacketID, pk.FixedHeader.Qos = 0, 0
	}
	return pk
}

// OnPacketEncode is called for each packet to a client. Those answers are written by who reads the client's packets. The hub is
// told in the topic which device published a message.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type == packets.Suback || pk.FixedHeader.Type == packets.Unsuback {
		if conn, ok := cl.Net.Conn.(*timedConn); ok {
			pk.PacketID = conn.asked
		}
	}
	if pk.FixedHeader.Type == packets.Publish && fromHub(cl) {
		pk.TopicName = authored(pk.Origin, pk.TopicName)
	}
	return pk
}

// acknowledged counts what an acknowledgement frees, and tells the gate of the hub's. mochi does so at the first one, whatever
// the message's QoS, does not always tell, and tells the same of its own acknowledgement of what a client published.
func (h *hook) acknowledged(cl *mqtt.Client, pk packets.Packet) {
	switch pk.FixedHeader.Type {
	case packets.Puback, packets.Pubcomp:
		if fromHub(cl) {
			h.gate.finished(cl.ID, pk.PacketID, nil)
			return
		}
		h.queued.set(cl.ID, pk.PacketID, 0)
	case packets.Pubrel:
		h.queued.set(cl.ID, pk.PacketID, 0)
	case packets.Pubrec:
		h.queued.shrink(cl.ID, pk.PacketID)
	}
}

// OnQosPublish is called when a message is kept in a session until its client has acknowledged it; and also when an
// acknowledgement of what the client published is.
func (h *hook) OnQosPublish(cl *mqtt.Client, pk packets.Packet, _ int64, _ int) {
	switch {
	case !h.isHub(cl):
		h.queued.set(cl.ID, pk.PacketID, sizeOf(pk))
	case pk.FixedHeader.Type == packets.Publish && !pk.FixedHeader.Dup:
		h.gate.handed(cl.ID, pk.PacketID)
	}
}

// OnQosComplete is called when a session needs to keep a message, or an acknowledgement, no longer.
func (h *hook) OnQosComplete(cl *mqtt.Client, pk packets.Packet) {
	if !h.isHub(cl) {
		h.queued.set(cl.ID, pk.PacketID, 0)
	}
}

// fromHub tells whether it is the hub that has this connection.
func fromHub(cl *mqtt.Client) bool {
	conn, ok := cl.Net.Conn.(*timedConn)
	return ok && conn.hub.Load()
}
