package commands

import "time"

// The bounds that nobody has needed to set; those that sites set are in configs.Commands.
const (
	maxNameBytes     = 64      // of a command's name
	maxActorBytes    = 256     // of who asked
	maxKeyBytes      = 255     // of an idempotency key
	maxCodeBytes     = 256     // of a device's error code
	maxTextBytes     = 8 << 10 // of what it says beside: a message of an error
	maxProgressBytes = 512     // of a message of progress: of these a command may have many
	maxTries         = 10      // of one command
	maxEvents        = 64      // of one command that operators see; of progress beyond it, the last
	maxPending       = 100_000 // events that wait for the log
	maxOpenBytes     = 512 << 20
	maxRecent        = 16_384 // commands that ended lately and are kept in memory
	maxRecentBytes   = 32 << 20
	maxKeys          = 1_000_000 // idempotency keys remembered
	maxHeld          = 64        // answers that overtook their command's socket write
	maxEarly         = 65_536    // answers that came while the log was being read
	maxLateChecks    = 4096      // answers whose command must be looked up in the log
	maxSchemas       = 1024      // compiled schemas
	maxSchemaBytes   = 64 << 10
	maxSchemaCost    = 100_000 // schemas visited for one value: a few bytes of references can ask for 2^64
	maxPublishers    = 1024    // runs of nodes whose message numbers are remembered

	batchMessages = 1000      // of one atomic batch; the server takes no more
	batchBytes    = 4 << 20   // of one commit
	messageBytes  = 192 << 10 // of one message, under the stream's limit
	singles       = 16        // up to this many messages are cheaper one by one: an atomic batch costs files of its own

	lazyDelay      = 20 * time.Millisecond // an event nobody waits for may wait this long for the next of its device
	minBackoff     = 50 * time.Millisecond
	maxBackoff     = 2 * time.Second
	deliverTimeout = 15 * time.Second       // of one socket write
	retryDelay     = time.Second            // after a write that failed, and of a deadline that could not be recorded
	takeover       = 5 * time.Second        // before a node ends a command that is another's to end
	progressEvery  = 200 * time.Millisecond // operators see
	progressGap    = 5 * time.Second        // the log keeps, or a quarter of the command's timeout if that is longer
	floorEvery     = 30 * time.Second
	stopTimeout    = 10 * time.Second // for the last commit
	lookupTimeout  = 30 * time.Second
	readFew        = 8    // messages of the first read of the log by those who expect to stop early
	readGrowth     = 8    // times as many in the next
	readBatch      = 1000 // messages of one read of the log at most
	maxRetryDelay  = 24 * time.Hour
	keyKeep        = 24 * time.Hour
	dueAtOnce      = 1000 // deadlines handled before others get the lock
)
