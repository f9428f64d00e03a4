// Package twin keeps the state documents of devices: what operators want (desired), what devices say (reported), and
// where the two differ.
//
// # Data flow
//
//	operator -> PatchDesired -> bucket -> (watch, on every node) -> Link.SendState on the node with the socket -> device
//	device -> Reported -> pending, merged per device -> bucket -> live event
//
// Both documents are changed by merge patches [RFC7396] and live in the bucket twins, one key each, so that what a
// device reports never collides with what an operator asks. Every node watches the bucket into memory; reads are from
// memory, and a node sees at once what it wrote itself.
//
// # Versions
//
// A document's version grows by one with each change and never falls: a deleted device leaves its versions behind, so
// that a device that comes back under the same id can trust that a lower version is older. A patch that changes nothing
// has no new version, is not written and not sent.
//
// # Desired
//
// PatchDesired is durable before it returns. The device hears the whole document when it attaches and after each
// change; if several changes come while one is being written, it hears only the newest. One that cannot be reached
// hears it when it attaches. A slow device delays only itself.
//
// # Reported
//
// A report is merged into what is pending for its device and is written at once if the device has been quiet, else when
// reportEvery has passed since its last write. So a device causes at most one write each reportEvery, the node at most
// reportRate, and what waits is one patch per device. Reports that change nothing cost no write. A report has no
// acknowledgement: one that was still pending in a crash is lost, and the device says it again when it attaches.
//
// # Limits
//
// See limits.go; at each limit the caller gets an error that says which.
package twin
