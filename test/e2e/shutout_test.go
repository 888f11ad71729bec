package e2e

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/node/process"
	"howdah/test/testpg"
)

// A postmaster hangs, and whoever is connected is served: a person is told, and after 30 s
// it is ended. Whoever has everything leads then, or it starts anew, with every row that was
// acknowledged meanwhile. One that was merely stopped goes on at once.
func TestShutOut(t *testing.T) {
	byNight(t)
	w := demo(t)
	leader := w.Node(w.whole())
	master := w.role(leader, "postgres")
	w.kill(master, unix.SIGSTOP)
	w.sql("select 1")
	if now := w.whole(); now != leader.Member || w.role(leader, "postgres") != master {
		t.Errorf("%s leads after the postmaster of %s was stopped", now, leader.Member)
	}

	writer := w.write()
	w.pause(12 * time.Second) // a login is tried every 10 s, and one was answered
	resume := testpg.Suspend(t, master.PID)
	hung := time.Now()
	told := false
	w.until("it is ended", func() bool {
		if !told {
			a, err := w.Run(w.ctx, "status")
			w.check(err)
			if told = strings.Contains(a.Out+a.Err, "logins-silent"); told {
				if rows := writer.Longest(hung, time.Now()); rows > 5*time.Second {
					t.Errorf("those who were connected could not write for %s", rows)
				}
			}
		}
		_, there := process.Of(master.PID)
		return !there
	})
	ended := time.Since(hung)
	w.sql("select 1")
	let := time.Since(hung)
	resume()
	w.flowing(writer)
	now := w.whole()
	t.Logf("ended after %s, %s leads (it was %s), clients were let in after %s; %s without writes", ended.Round(time.Millisecond), now, leader.Member,
		let.Round(time.Millisecond), writer.Longest(hung, time.Now()).Round(time.Millisecond))
	if !told {
		t.Error("nobody was told")
	}
	if ended < 25*time.Second || ended > time.Minute { // a login is tried up to 10 s later, and given 8 s three times
		t.Errorf("it was ended after %s", ended)
	}
	w.kept(writer)
}
