package process

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Threads has Go's runtime start n threads now, from a thread of its program: they
// stay, and are taken before others are made. The watcher of the runtime makes some
// too, and those would inherit its slack (Job.Slack).
func Threads(n int) {
	var begun, ended sync.WaitGroup
	leave := make(chan struct{})
	begun.Add(n)
	for range n {
		ended.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			begun.Done()
			<-leave
		})
	}
	begun.Wait()
	close(leave)
	ended.Wait()
}

// punctual is the kernel's own slack of a thread (prctl(2), PR_SET_TIMERSLACK), in nanoseconds.
const punctual = 50_000

// Punctual runs start, which starts a process, on a thread without slack: the
// process inherits it.
func Punctual(start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, punctual, 0, 0, 0) // it can not fail
	return start()
}
