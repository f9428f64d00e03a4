//go:build !chaos

package commands_test

// manyDevices is how many devices are off line at once; more with the build tag chaos.
const manyDevices = 1000
