package twin

import "time"

// MaxDocument is the most bytes of a document, as compact JSON.
const MaxDocument = 32 << 10

// MaxDepth is how deep a document may be nested; the document itself is the first level.
const MaxDepth = 10

const (
	maxPatch   = 2 * MaxDocument  // of one report: a patch may also delete
	maxWaiting = 16 * MaxDocument // memory of what waits for one device
	maxPending = 64 << 20         // memory of all that waits

	reportEvery   = time.Second // between two writes of one device's reports
	reportRate    = 500         // writes of reports a second, of this node
	reportBurst   = 50
	reportWriters = 4

	sendTimeout  = 15 * time.Second // of one socket write
	writeTimeout = 10 * time.Second // of one write to the bucket
	drainTimeout = 30 * time.Second // for what is pending when the node stops
	rewatchWait  = time.Second
	removeAgain  = 5 * time.Second // after a removal that failed

	conflictTries = 64 // of a change that others were faster with
	conflictWait  = 20 * time.Millisecond
)
