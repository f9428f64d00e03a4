//go:build chaos

package commands_test

// The long rounds.
const (
	manyDevices = 5000 // off line at once
	killRounds  = 10
)
