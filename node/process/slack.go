package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

var errNoWatcher = errors.New("it has no second thread")

// sleepIn has the watcher of a Go program's runtime (sysmon) wake up to slack later
// than it asks to. That thread sleeps and looks a hundred times a second, whatever
// the program does; nothing else of the program wakes later for this.
//
// It is the first thread that the runtime starts (runtime/proc.go, main), and the
// kernel lists threads by age. To say this of another process takes CAP_SYS_NICE
// (proc(5), timerslack_ns).
func sleepIn(id ID, slack time.Duration) error {
	dir, err := os.Open("/proc/" + strconv.Itoa(id.PID) + "/task")
	if err != nil {
		return err
	}
	defer dir.Close()
	threads, err := dir.Readdirnames(2)
	if err != nil {
		return err
	}
	if now, ok := Of(id.PID); !ok || now != id {
		return ErrGone
	}
	if len(threads) < 2 {
		return errNoWatcher
	}
	return os.WriteFile("/proc/"+threads[1]+"/timerslack_ns", fmt.Append(nil, slack.Nanoseconds()), 0)
}
