// Package jobs carries one command to many devices: at a bounded and perhaps growing rate, with a bounded number at a
// time, and an end when too many fail.
//
// # Data flow
//
//	operator -> Jobs.Create -> bucket jobs -> driver -> Router.Create, once per device -> results -> bucket jobs
//
// The devices of a job are listed once, when it is made, and kept with it; a device that gets the label later is not part
// of it. One node at a time drives all jobs, under a lease. Before the driver asks the Router for the commands of some
// devices it records that it will, and it asks under the idempotency key job:<id>:<device>. So whoever goes on after it
// died asks again for those of which the answer is not recorded, and gets the command that was made then: no device gets
// two. When the recorded intent is so old that keys are forgotten, the command is looked for in the log instead.
//
// What became of each device is what became of its command. The driver hears of changes and looks again every few
// seconds, so a change that nobody heard is late and never lost. Counts and results are written once a second.
//
// A job outlasts the request that made it, so each command is made only if the maker of the job may still command the
// device, and if that is the device which had the id when the job was made: see Makers. The job of a maker who may make no
// jobs any more is cancelled by the hub.
//
// # Ends
//
// A job is completed when each device's command has ended; cancelled by an operator, which takes the open commands back;
// aborted when of the first After that ended, or of more, FailedPercent or more did not succeed: then what still waits is
// taken back, and what devices work on goes on. Failed counts everything that ended but neither succeeded nor was
// cancelled, also what the Router refused. A paused job starts nothing; what was started goes on.
//
// # Limits
//
// 100,000 devices a job, 32 jobs at work, 1000 jobs kept, each for 90 days after its end.
package jobs
