//go:build !chaos

package jobs_test

// The size of the kill test; larger with the build tag chaos.
const (
	killDevices = 5000
	killRounds  = 4
)
