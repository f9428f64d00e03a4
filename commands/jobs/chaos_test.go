//go:build chaos

package jobs_test

// The size of the kill test.
const (
	killDevices = 20_000
	killRounds  = 20
)
