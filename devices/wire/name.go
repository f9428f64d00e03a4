package wire

// maxName is the longest name of a measurement, tag or field.
const maxName = 64

// nameBytes tells which bytes a name may hold: 1 anywhere, 2 not first.
var nameBytes = func() (t [256]uint8) {
	for c := range t {
		switch b := byte(c); {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b == '_':
			t[c] = 1
		case b >= '0' && b <= '9', b == '.', b == '-':
			t[c] = 2
		}
	}
	return t
}()

// NameFault says what is wrong with a measurement, tag key or field key, or "". It is the one place that decides it.
func NameFault(name []byte) string {
	if len(name) == 0 || len(name) > maxName {
		return "name must have 1 to 64 characters"
	}
	if nameBytes[name[0]] != 1 {
		return "name must start with a letter or underscore"
	}
	for _, c := range name[1:] {
		if nameBytes[c] == 0 {
			return "name may hold A-Z a-z 0-9 _ . - only"
		}
	}
	switch string(name) {
	case "time", "_time", "_measurement", "_field", "_start", "_stop":
		return "name is reserved by InfluxDB; choose another"
	}
	return ""
}
