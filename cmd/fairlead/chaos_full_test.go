//go:build chaos

package main_test

import "time"

// The long rounds of what breaks things.
const (
	killRounds  = 100
	cutRounds   = 30
	faultTime   = 5 * time.Second
	outageTime  = 2 * time.Minute
	outageKinds = 5
	longOutage  = 10 * time.Minute
	outageRate  = 20_000 // points a second
	afterOutage = 10 * time.Minute

	historyCommands = 11_000 // requests; some make no command
	historyUptime   = 3000   // milliseconds that a hub lives at most, and a little
)
