package ingest

import "strings"

// BatchLines returns the lines of an encoded batch.
func BatchLines(b []byte) ([]string, error) {
	_, lanes, err := readBatch(b)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, l := range lanes {
		if len(l.data) > 0 {
			lines = append(lines, strings.Split(strings.TrimSuffix(string(l.data), "\n"), "\n")...)
		}
	}
	return lines, nil
}
