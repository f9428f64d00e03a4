package load

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// timer is a timer of the kernel that the runtime waits for as for a socket. A sleep in a system call would be as exact,
// but keeps a processor of the runtime meanwhile: with a few such sleepers nobody reads the acks, at times for seconds.
type timer struct{ file *os.File } // nil: the system gave none, the runtime's timers have to do

func newTimer() *timer {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return &timer{}
	}
	return &timer{os.NewFile(uintptr(fd), "timer")}
}

// sleep waits for d, which is more than 0.
func (t *timer) sleep(d time.Duration) {
	if !t.set(d) {
		time.Sleep(d)
		return
	}
	var fired [8]byte
	_, _ = t.file.Read(fired[:]) // it cannot fail once the timer is set
}

func (t *timer) set(d time.Duration) (set bool) {
	conn, err := t.file.SyscallConn() // of no file: an error
	if err != nil {
		return false
	}
	err = conn.Control(func(fd uintptr) {
		set = unix.TimerfdSettime(int(fd), 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil) == nil
	})
	return set && err == nil
}

func (t *timer) close() { _ = t.file.Close() }
