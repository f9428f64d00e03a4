package ingest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A batch is one message of the TELEMETRY stream. Its format, all numbers little-endian:
//
//	offset  size  what
//	0       3     "FLB"
//	3       1     version, 1
//	4       4     CRC-32C of all that follows
//	8       8     Unix nanoseconds when its oldest point was received
//	16      1     lanes L
//	17      3     zero
//	20      8*L   for each lane: bytes, lines (4 each)
//	..            the lanes' line protocol, one after the other, each line ended by a newline
//
// A device's points are all in one lane, in the order in which they came; so lanes may be written in parallel, and
// the last of two points with one time still wins.

// Lanes is how many independent ways lead from the log to InfluxDB.
const Lanes = 4

const (
	batchVersion = 1
	batchFixed   = 20
	batchHeader  = batchFixed + 8*Lanes
)

var (
	batchMagic = [3]byte{'F', 'L', 'B'}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// ErrBatch says that a message of the log is not a batch that this hub can read.
var ErrBatch = errors.New("not a readable batch")

// lane is a piece of line protocol and how many lines it has.
type lane struct {
	data  []byte
	lines int
}

// appendBatch appends the encoded batch to dst.
func appendBatch(dst []byte, oldest int64, lanes *[Lanes]lane) []byte {
	start := len(dst)
	dst = append(dst, batchMagic[0], batchMagic[1], batchMagic[2], batchVersion, 0, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(oldest))
	dst = append(dst, Lanes, 0, 0, 0)
	for i := range lanes {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(lanes[i].data)))
		dst = binary.LittleEndian.AppendUint32(dst, uint32(lanes[i].lines))
	}
	for i := range lanes {
		dst = append(dst, lanes[i].data...)
	}
	binary.LittleEndian.PutUint32(dst[start+4:], crc32.Checksum(dst[start+8:], castagnoli))
	return dst
}

// readBatch reads an encoded batch; the lanes are views of b.
func readBatch(b []byte) (oldest int64, lanes []lane, err error) {
	if len(b) < batchFixed || [3]byte(b[:3]) != batchMagic {
		return 0, nil, fmt.Errorf("%w: no header", ErrBatch)
	}
	if b[3] != batchVersion {
		return 0, nil, fmt.Errorf("%w: version %d, this hub reads %d", ErrBatch, b[3], batchVersion)
	}
	if crc32.Checksum(b[8:], castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return 0, nil, fmt.Errorf("%w: checksum", ErrBatch)
	}
	oldest = int64(binary.LittleEndian.Uint64(b[8:]))
	n := int(b[16])
	at := batchFixed + 8*n
	if len(b) < at {
		return 0, nil, fmt.Errorf("%w: cut short", ErrBatch)
	}
	lanes = make([]lane, n)
	for i := range lanes {
		head := b[batchFixed+8*i:]
		size := int(binary.LittleEndian.Uint32(head))
		if size > len(b)-at {
			return 0, nil, fmt.Errorf("%w: lane %d cut short", ErrBatch, i)
		}
		lanes[i] = lane{b[at : at+size], int(binary.LittleEndian.Uint32(head[4:]))}
		at += size
	}
	return oldest, lanes, nil
}

// CountLines is how many points an encoded batch holds, for audits of the log.
func CountLines(b []byte) (n int, err error) {
	_, lanes, err := readBatch(b)
	for _, l := range lanes {
		n += l.lines
	}
	return n, err
}
