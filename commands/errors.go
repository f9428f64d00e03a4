package commands

import "errors"

// What Create, Cancel, Wait and List refuse with. The HTTP status of each is decided in commands/api.
var (
	// ErrUnknownDevice says that no record of the device exists.
	ErrUnknownDevice = errors.New("device is not known")
	// ErrOtherDevice says that the id is another device's by now: the one that was meant was deleted.
	ErrOtherDevice = errors.New("the device was deleted, and its id is another one's")
	// ErrNotPermitted is what a Request's Permit refuses with: whoever asks may not command the device by now.
	ErrNotPermitted = errors.New("whoever asked may not command the device any more")
	// ErrUnknownCommand says that the device announced its commands and this is none of them.
	ErrUnknownCommand = errors.New("the device announced no such command")
	// ErrInvalidRequest says that a part of the request other than its parameters cannot be.
	ErrInvalidRequest = errors.New("request is not valid")
	// ErrInvalidParams says that the parameters do not fit the schema that the device announced.
	ErrInvalidParams = errors.New("parameters do not fit the announced schema")
	// ErrConfirmRequired says that the command is dangerous and was not confirmed with the device's id.
	ErrConfirmRequired = errors.New("dangerous command is not confirmed with the device id")
	// ErrOffline says that the command was for now or never, and the device is not on line.
	ErrOffline = errors.New("device is not on line")
	// ErrQueueFull says that too many commands already wait for the device.
	ErrQueueFull = errors.New("the device's queue is full")
	// ErrOverloaded says that the hub holds as many open commands as it may.
	ErrOverloaded = errors.New("too many open commands")
	// ErrKeyReused says that the idempotency key already stands for another request.
	ErrKeyReused = errors.New("idempotency key was used for another request")
	// ErrHeld says that another operator holds the device. It comes as *HeldError.
	ErrHeld = errors.New("another operator holds the device")
	// ErrNotAwaiting says that the command does not wait for a second operator, or not any more.
	ErrNotAwaiting = errors.New("command does not wait for approval")
	// ErrSelfApproval says that whoever asked for a command wanted to approve it.
	ErrSelfApproval = errors.New("whoever asked for a command cannot approve it")
	// ErrNotFound says that there is no such command, or none any more.
	ErrNotFound = errors.New("command not found")
	// ErrFinal says that the command had ended before it could be cancelled.
	ErrFinal = errors.New("command has already ended")
	// ErrLogFull says that the command log has no room: nothing was recorded.
	ErrLogFull = errors.New("command log is full")
	// ErrTooLarge says that an event is larger than the command log takes: it never was recorded and never will be.
	ErrTooLarge = errors.New("too large for the command log")
	// ErrClosed says that the router is stopping: nothing was recorded.
	ErrClosed = errors.New("commands are stopping")
	// ErrUnclear says that the router stopped before the log answered: what was asked for may have been recorded.
	ErrUnclear = errors.New("it is not known whether this was recorded")
	// ErrUnsupported is what a Link returns when the device can never be asked that, as a bridged one of another kind. The
	// command is then rejected.
	ErrUnsupported = errors.New("the device cannot be asked that")
	// ErrNotConnected is what a Link returns when the device has no live session on this node.
	ErrNotConnected = errors.New("device has no session on this node")
)

// InvalidError names the faulty part of a request. It is ErrInvalidRequest or ErrInvalidParams.
type InvalidError struct {
	Kind    error  // ErrInvalidRequest or ErrInvalidParams
	Path    string // JSON pointer into the request body, as /params/seconds
	Message string
}

// Error names the place and the fault.
func (e *InvalidError) Error() string { return e.Path + ": " + e.Message }

// Unwrap returns Kind.
func (e *InvalidError) Unwrap() error { return e.Kind }

func invalid(path, message string) error {
	return &InvalidError{Kind: ErrInvalidRequest, Path: path, Message: message}
}
