package wire

import "fmt"

// MaxID is the longest device id, in bytes.
const MaxID = 64

// CheckID reports whether id is a device id: 1-64 characters of A-Z a-z 0-9 _ : -, the first a letter or digit. It is
// the one place that decides it, so that no id can become a wildcard, a path or a second token of a subject.
func CheckID(id string) error {
	if id == "" || len(id) > MaxID {
		return fmt.Errorf("device id: %d characters, want 1 to %d", len(id), MaxID)
	}
	for i := range len(id) {
		c := id[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '_' && c != ':' && c != '-') {
			return fmt.Errorf("device id %q: character %d is not allowed; use A-Z a-z 0-9 _ : -, starting with a letter or digit", id, i+1)
		}
	}
	return nil
}

// CleanID turns any name into a device id: what an id may not hold becomes "-". Names that an id could hold are
// returned unchanged. Two names can become one id; who needs them apart adds what tells them apart.
func CleanID(name string) string {
	out := make([]byte, 0, min(len(name), MaxID))
	for i := 0; i < len(name) && len(out) < MaxID; i++ {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		switch {
		case alnum, len(out) > 0 && (c == '_' || c == ':' || c == '-'):
			out = append(out, c)
		case len(out) > 0:
			out = append(out, '-')
		}
	}
	if len(out) == 0 {
		return "device"
	}
	return string(out)
}
