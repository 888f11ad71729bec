package postgres

import (
	"context"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// A process that ends in the very moment in which it begins to be waited for is not waited for
// without end.
func TestWhoEndsAtOnceIsSeen(t *testing.T) {
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for i := range 300 {
				cmd := exec.Command("/bin/true")
				if err := cmd.Start(); err != nil {
					t.Error(err)
					return
				}
				if st, ok := readStat(cmd.Process.Pid); ok {
					for end := time.Now().Add(time.Duration(i*5) * time.Microsecond); time.Now().Before(end); {
						continue // another moment each time
					}
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
					if err := (Proc{PID: cmd.Process.Pid, Ticks: st.ticks}).waitExit(ctx); err != nil {
						t.Errorf("process %d: %v", i, err)
					}
					cancel()
				}
				_ = cmd.Wait() // it may be reaped
			}
		})
	}
	all.Wait()
}
