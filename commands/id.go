package commands

import (
	"crypto/rand"
	"strconv"
	"strings"
)

// A command's id is the sequence of the log message that created it and six random characters, both in Crockford's
// base 32: 3F-7QK2ZD. The sequence finds the command without an index of all that ever were; the random part, kept
// in the message, keeps an id from ever meaning another command, also when the log was lost and began again.

const (
	digits       = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	suffixLength = 6
	maxSeqDigits = 13 // of 64 bits
)

func newSuffix() string {
	var b [suffixLength]byte
	// It never returns an error.
	_, _ = rand.Read(b[:])
	for i := range b {
		b[i] = digits[b[i]&31]
	}
	return string(b[:])
}

func formatID(seq uint64, suffix string) string {
	var b [maxSeqDigits]byte
	i := len(b)
	for {
		i--
		b[i] = digits[seq&31]
		if seq >>= 5; seq == 0 {
			break
		}
	}
	return string(b[i:]) + "-" + suffix
}

// Place is where in the log the command of an id was created, 0 if it is none. Unlike times it only grows, whatever becomes
// of the clocks.
func Place(id string) uint64 {
	seq, _, _ := parseID(id)
	return seq
}

// wireID is how the device knows a try: the first by the command's id, the second as ID-2. A device acts once per id.
func wireID(id string, try int) string {
	if try == 0 {
		return id
	}
	return id + "-" + strconv.Itoa(try+1)
}

// splitTry undoes wireID. What it cannot read is left as it is, and is no command's id.
func splitTry(s string) (id string, try int) {
	i := strings.LastIndexByte(s, '-')
	if i < 0 || strings.IndexByte(s, '-') == i || len(s)-i > len("-10") || s[i+1:] == "" || s[i+1] == '0' {
		return s, 0
	}
	n, err := strconv.ParseUint(s[i+1:], 10, 8)
	if err != nil || n < 2 || n > maxTries {
		return s, 0
	}
	return s[:i], int(n) - 1
}

// parseID undoes formatID; ok is false for anything that formatID does not return.
func parseID(id string) (seq uint64, suffix string, ok bool) {
	head, suffix, found := strings.Cut(id, "-")
	if !found || len(head) == 0 || len(head) > maxSeqDigits || len(suffix) != suffixLength || len(head) > 1 && head[0] == '0' {
		return 0, "", false
	}
	for i := range len(head) {
		d := strings.IndexByte(digits, head[i])
		if d < 0 || seq > 1<<59-1 {
			return 0, "", false
		}
		seq = seq<<5 | uint64(d)
	}
	for i := range len(suffix) {
		if strings.IndexByte(digits, suffix[i]) < 0 {
			return 0, "", false
		}
	}
	return seq, suffix, seq > 0
}
