// Command fairlead is the hub: it keeps a fleet of devices on the line, stores what they measure and carries commands
// back to them.
package main

func main() {}
