package bus

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
)

// Files returns how to find the first sequences of the files that the embedded server keeps a stream in, from the oldest
// on; nil if the servers are others'. To cut a stream there costs far less than within a file. It reads what the pinned
// server writes, and a file that it cannot read is left out: nothing but speed may depend on it.
func (b *Bus) Files(stream string) func() []uint64 {
	if !b.Alone() {
		return nil
	}
	dir := filepath.Join(streamDir(b.opts.Dir, stream), "msgs")
	return func() (starts []uint64) {
		entries, _ := os.ReadDir(dir) // without it no file is known
		for _, e := range entries {
			if filepath.Ext(e.Name()) != ".blk" {
				continue
			}
			if seq, ok := firstSequence(filepath.Join(dir, e.Name())); ok {
				starts = append(starts, seq)
			}
		}
		slices.Sort(starts)
		return starts
	}
}

// A record in a file begins with its length, 4 bytes, and its sequence, 8 bytes, the lowest first. Of the sequence the two
// highest bits mark records that are no messages: of what was removed. No message has the sequence 0.
const (
	recordHead = 12
	noMessage  = 3 << 62
	hasHeaders = 1 << 31
	maxRecords = 4096 // that are looked at
)

func firstSequence(name string) (uint64, bool) {
	f, err := os.Open(name)
	if err != nil {
		return 0, false // it went meanwhile
	}
	defer f.Close()
	var head [recordHead]byte
	at := int64(0)
	for range maxRecords {
		if _, err := f.ReadAt(head[:], at); err != nil {
			return 0, false
		}
		length, seq := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint64(head[4:])
		if seq != 0 && seq&noMessage == 0 {
			return seq, true
		}
		at += int64(length &^ hasHeaders)
	}
	return 0, false
}
