package twin

import "errors"

// What PatchDesired, Reported and State refuse with.
var (
	// ErrUnknownDevice says that no record of the device exists.
	ErrUnknownDevice = errors.New("device is not known")
	// ErrInvalid says that a patch is not an object, nested too deep, or holds a number that is none.
	ErrInvalid = errors.New("patch is not valid")
	// ErrTooLarge says that the document would exceed MaxDocument.
	ErrTooLarge = errors.New("document is too large")
	// ErrVersionMismatch says that the desired document has another version than the caller expects.
	ErrVersionMismatch = errors.New("desired document has another version")
	// ErrConflict says that others kept changing the document meanwhile.
	ErrConflict = errors.New("document was changed meanwhile, again and again")
	// ErrFull says that the bucket has no room: nothing was changed.
	ErrFull = errors.New("twins have no room left")
	// ErrOverloaded says that too many reports wait to be stored: this one was not taken.
	ErrOverloaded = errors.New("too many reports wait to be stored")
	// ErrClosed says that the node is stopping: nothing was taken.
	ErrClosed = errors.New("twins are stopping")
)
