package wire

import (
	"encoding/json"
	"fmt"
	"time"
)

// DecodeHub reads one frame of the hub, for devices: *Welcome, *Ack, *Reject, *Command, *Cancel, *State, *Token, *Error
// or *Bye. Frames of a later version are an *UnknownType, which a device ignores.
func DecodeHub(c Codec, data []byte) (any, error) {
	if c == CBOR {
		js, err := cborToJSON(data)
		if err != nil {
			return nil, fmt.Errorf("decode frame: %w", err)
		}
		data = js
	}
	var envelope struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(data, &envelope); err != nil {
		return nil, fmt.Errorf("decode frame: %w", err)
	}
	frame := hubFrame(envelope.Type)
	if frame == nil {
		return nil, &UnknownType{Type: envelope.Type}
	}
	if err := json.Unmarshal(data, frame); err != nil {
		return nil, fmt.Errorf("decode %s frame: %w", envelope.Type, err)
	}
	return frame, nil
}

func hubFrame(kind string) any {
	switch kind {
	case "welcome":
		return new(Welcome)
	case "ack":
		return new(Ack)
	case "reject":
		return new(Reject)
	case "command":
		return new(Command)
	case "cancel":
		return new(Cancel)
	case "state":
		return new(State)
	case "token":
		return new(Token)
	case "error":
		return new(Error)
	case "bye":
		return new(Bye)
	}
	return nil
}

func appendRFC3339(dst []byte, ns int64) []byte {
	return time.Unix(0, ns).UTC().AppendFormat(dst, time.RFC3339Nano)
}
