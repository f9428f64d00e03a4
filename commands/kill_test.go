package commands_test

func runChild() bool { return false }
