//go:build !chaos

package commands_test

// The short rounds; the build tag chaos makes them long.
const (
	manyDevices = 1000 // off line at once
	killRounds  = 4
)
