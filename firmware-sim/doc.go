// Package sim is the firmware of simulated devices, and fleets of them. It speaks the device protocol as a real device
// has to: it imports the frame types and nothing else of the hub, so what it needs to know is what a device needs to know.
//
//	Fleet   N devices of mixed models, each with believable signals and commands
//	Replay  one device that sends the rows of a CSV file as its measurements
//	Plug    a Tasmota plug over MQTT
//
// A device keeps each point from the moment it is made until the hub has acked or rejected it, in a buffer with a limit.
// After a break of the link it sends again what was not acked, in order, with the same times and values. It remembers
// the commands it has answered, so that a command that comes twice is done once.
//
//	source -> backlog -> session (one socket: hello, telemetry, answers) -> hub
//	                        ^ welcome, ack, reject, command, cancel, state, token, bye
package sim
