//go:build !linux

package main

import "os/exec"

// dieWithParent needs Linux; elsewhere a child outlives a killed parent.
func dieWithParent(*exec.Cmd) {}
