// Package commands takes orders from operators to devices and never lies about what became of them.
//
// # Data flow
//
//	operator -> Router.Create -> log -> Link.Deliver -> device
//	device -> Router.Answered -> log -> the device may forget its answer, Wait returns, Watch hears
//
// Everything that happens to a command is an entry in the COMMANDS stream, one subject per device. An entry is a
// proposal: whether it has an effect is decided by its place in the log, by one pure function (command.apply) and its
// table of moves. So there is nothing to agree on but the order of the log, and that is the stream's: every node folds
// the same entries in the same order into the same commands. A second final state, an expiry that comes after the
// device's answer, a cancel that lost a race are void on every node alike.
//
// # What each state means
//
// A frame is written to a socket only by a node that holds the grant, an entry that was durable before: given in the
// created entry when the device is on line, else by a sending entry. expired, and cancelled without the device's word,
// need that no grant is out. So what expired was never written by anybody, also when nodes die at any point or their
// clocks differ. A command whose grant a dead node took along may or may not have been written; it goes to the device
// again when it shows up, and otherwise ends as timed_out, which says just that. A node that finds the device gone
// gives the grant back (unsent).
//
// sent is recorded when the socket write returned, delivered and running only by what the device says. A result is
// durable before the device is told to forget it and before any operator hears of it. timed_out counts from the last
// sent or answer, so a device that reports progress keeps its command alive, up to configs.Commands.MaxTimeout from its
// first answer on. The log keeps one progress in five seconds, or in a quarter of the timeout if that is longer, and a
// running command has that much more time; what comes in between is shown by the node that heard it, and changes
// nothing. timed_out carries the revision of the command that it was decided on, and is void if anything came in
// between. The device's own result still replaces timed_out, once, with late set. Cancel: see Router.Cancel.
//
// # When and how often
//
// A command may have an hour before which it is not sent (its time to live counts from then), and may need a second
// operator: both are conditions of the sending entry, so no node writes it earlier. Of those that may be sent to a device
// the highest priority goes first, within one priority the oldest; the rest let them pass. With a retry policy a try that
// failed or timed out puts the command back to queued, and the final state comes with the last try. Each try has an id of
// its own on the wire, for a device acts once per id; events name the try they speak of. That an earlier try succeeded
// after all ends the command if no later one is out, and is noted otherwise.
//
// A device that is deleted takes its commands along: a cancel of the hub, marked gone, ends what waits, and what the device
// may have had ends by its time. Nothing of it reaches the next device of the id: a command notes when the record of its
// device was made, and no node writes it to a device of another record, whether the cancel is in the log yet or not. See
// Router.Deleted.
//
// An operator may hold a device: see Router.Hold. A lease refuses new commands of others; what was recorded before it
// still goes. It too is on one device, not on an id.
//
// # Group commit
//
// One committer publishes: a single message, a few side by side, or an atomic batch that is synced once. While one
// commit is synced the next fills. Events of one device share a message. Events that nobody waits for (sent, accept,
// progress) wait a few milliseconds for one that somebody waits for, so a command to a device that answers at once
// takes two syncs: created, and all the rest. A publish whose answer was lost is repeated; messages are numbered per
// run of a node, and count once.
//
// # Memory
//
// Open commands are in memory, those that ended lately in a bounded cache, all others only in the log. An id names the
// sequence of its created entry, so finding one needs no index: read that message, then the device's subject from
// there until it has ended. After a restart a node folds from a durable floor (bucket hub, key commands.floor): below
// it every command has ended and no idempotency key counts any more. Keys live in the created entries: durable with
// the command, and in one order for all nodes. When the log nears its size the oldest ended commands are forgotten
// early; open ones never are, and one that waits for long keeps only the past of its own device.
//
// # Several nodes
//
// Every node follows the log, so any node creates, cancels, waits and lists. Who acts: the node that has the device's
// socket writes and asks to cancel, for only it knows the truth about that socket; it hears of the command through the
// log, so there is no second way that could disagree with the first. Deadlines are handled by the node with the
// socket, else by the creator, else, five seconds later, by anybody; should two do it, the first in the log counts. A
// node alone on an embedded bus folds what it publishes as soon as it is durable and reads nothing back.
//
// # Limits
//
// Per device: configs.Commands.QueuePerDevice waiting, SentPerDevice written and not ended (more wait), one write at a
// time, DrainPerSecond after it attached. Overall: MaxOpen commands and 512 MiB open, 100,000 events on their way into
// the log. The rest is in limits.go; at each limit the caller gets an error that says which.
package commands
