package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/lease"
)

// The program is replaced by one that does nothing while the agent of the
// primary is down: nobody renews and nobody fences but the guard. PostgreSQL
// is frozen before the lease can end, which is a margin after the page's
// deadline; when the program is back, all is well.
func TestAgentNeverComesBack(t *testing.T) {
	for i := range *fences {
		t.Run(strconv.Itoa(i+1), func(t *testing.T) {
			w := demo(t)
			writer := w.write()
			leader := w.Node(w.whole())
			program := leader.Paths.Binary
			w.check(os.Rename(program, program+".aside"))
			t.Cleanup(func() {
				if err := os.Rename(program+".aside", program); err != nil && !os.IsNotExist(err) {
					t.Error(err)
				}
			})
			nothing, err := os.ReadFile("/bin/false")
			w.check(err)
			w.check(os.WriteFile(program, nothing, 0o755))
			w.kill(w.role(leader, "agent"), unix.SIGKILL)
			until, ok := lease.Read(leader.Paths.Page)
			if !ok || until.Role != lease.Primary {
				t.Fatalf("the lease page says %v, %v", until, ok)
			}
			over := until.Deadline + leader.Agent.Timers.Margin
			frozen := time.Duration(0)
			for lease.Now() < over && frozen == 0 {
				if silent(leader) {
					frozen = lease.Now()
				}
				w.pause(2 * time.Millisecond)
			}
			if frozen == 0 {
				t.Fatalf("PostgreSQL of %s is not frozen at the end of its lease", leader.Member)
			}
			t.Logf("frozen %s after the deadline, %s before the lease could end", frozen-until.Deadline, over-frozen)
			w.flowing(writer) // somebody else leads
			w.check(os.Rename(program+".aside", filepath.Clean(program)))
			w.whole()
			w.flowing(writer)
			w.kept(writer)
		})
	}
}
