//go:build !chaos

package main_test

import "time"

// The short rounds of what breaks things; the tag "chaos" makes them long.
const (
	killRounds  = 5
	cutRounds   = 2
	faultTime   = time.Second
	outageTime  = 2 * time.Second
	outageKinds = 2     // the others are among the faults that TestChaosInfluxFaultsLoseNothing makes
	longOutage  = 0     // none
	outageRate  = 5_000 // points a second
	afterOutage = 2 * time.Minute

	historyCommands = 300
	historyUptime   = 900 // milliseconds that a hub lives at most, and a little
)
