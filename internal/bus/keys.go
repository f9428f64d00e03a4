package bus

import (
	"strings"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// DeviceKey is the key-value key of a device. A key may not hold the ":" that an id may; "=" stands for it, which no id
// holds.
func DeviceKey(device string) (string, error) {
	if err := wire.CheckID(device); err != nil {
		return "", err
	}
	return strings.ReplaceAll(device, ":", "="), nil
}

// KeyDevice is the device of a key that DeviceKey made; an error says that it did not.
func KeyDevice(key string) (string, error) {
	device := strings.ReplaceAll(key, "=", ":")
	return device, wire.CheckID(device)
}
