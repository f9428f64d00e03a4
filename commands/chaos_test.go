//go:build chaos

package commands_test

// manyDevices is how many devices are off line at once.
const manyDevices = 5000
