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
	// plainShare of the reserve is for requests while the node is full of sessions: enough to answer operators and posts,
	// and little enough that the log and the store find their files, also beside those who wait in the lobby.
	plainShare = 4
)

// openFiles is how many files the node may use.
type openFiles struct {
	sessions    int // at most
	connections int // of the listener, sessions or not
}

// filesOf is what the limit of open files leaves, with as many sessions as configured, or as there is room for.
func filesOf(configured int) (openFiles, error) {
	var rl syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &rl); err != nil {
		return openFiles{}, fmt.Errorf("limit of open files: %w", err)
	}
	files := int(min(rl.Cur, 1<<30))
	reserve := min(max(files/reserveShare, leastReserve), mostReserve)
	room := files - reserve
	out := openFiles{sessions: configured, connections: room + reserve/plainShare}
	switch {
	case room <= 0:
		return openFiles{}, fmt.Errorf("limit of open files is %d: raise it above %d (ulimit -n)", files, leastReserve)
	case configured == 0:
		out.sessions = room
	case configured > room:
		return openFiles{}, fmt.Errorf("devices.max_sessions is %d, but the limit of open files (%d) leaves room for %d; raise it (ulimit -n)",
			configured, files, room)
	}
	return out, nil
}
