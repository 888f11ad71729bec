package main

import "golang.org/x/sys/unix"

// isTerminal tells a terminal from /dev/null and its like.
func isTerminal(fd uintptr) bool {
	_, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
	return err == nil
}
