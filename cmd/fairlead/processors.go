package main

import (
	"os"
	"runtime"
	"sync"
)

// spareProcessors are how many of Go's processors a hub has beyond the machine's. Go's scheduler knows no priorities and lets
// go of a processor late: while each has something to do, who waits for a socket is looked after every 10 ms, and who comes
// back from a sync queues behind all the rest, at each step of a frame's way. With some to spare there is always one that
// waits for the network, and the kernel, which does know who has slept, shares out the machine.
const spareProcessors = 2

// processors adds the spare ones, once, and returns how many the machine gives the hub. Who sets GOMAXPROCS knows better.
var processors = sync.OnceValue(func() int {
	n := runtime.GOMAXPROCS(0)
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(n + spareProcessors)
	}
	return n
})
