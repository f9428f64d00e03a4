package devices

import (
	"fmt"
	"syscall"
)

// The open files that are kept for everything but sessions: the log, the store, brokers, operators.
const (
	leastReserve = 256
	mostReserve  = 2048
	reserveShare = 16
)

// sessionLimit is how many sessions the node takes: as configured, or what the limit of open files leaves.
func sessionLimit(configured int) (int, error) {
	var rl syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &rl); err != nil {
		return 0, fmt.Errorf("limit of open files: %w", err)
	}
	files := int(min(rl.Cur, 1<<30))
	room := files - min(max(files/reserveShare, leastReserve), mostReserve)
	switch {
	case room <= 0:
		return 0, fmt.Errorf("limit of open files is %d: raise it above %d (ulimit -n)", files, leastReserve)
	case configured == 0:
		return room, nil
	case configured > room:
		return 0, fmt.Errorf("devices.max_sessions is %d, but the limit of open files (%d) leaves room for %d; raise it (ulimit -n)",
			configured, files, room)
	}
	return configured, nil
}
