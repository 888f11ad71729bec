package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"howdah/cluster"
	"howdah/node/process"
	"howdah/spec"
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

// Whoever logs in waits for a lock on the roles, or for a postmaster that hangs, and a standby
// has everything: when the server was ended that one leads, and lets clients in.
func TestShutOutHandsOver(t *testing.T) {
	byNight(t)
	for _, tt := range []struct {
		name string
		shut func(w *world, leader spec.Node)
	}{
		{"a lock on the roles", func(w *world, leader spec.Node) {
			conn, err := pgconn.ConnectConfig(w.ctx, w.straight(leader))
			w.check(err)
			w.t.Cleanup(func() { _ = conn.Close(context.Background()) })
			lock := w.owner(leader, "postgres", "begin; lock table pg_authid in access exclusive mode; select pg_sleep(600)")
			w.check(lock.Start())
			w.t.Cleanup(func() { _ = lock.Process.Kill(); _ = lock.Wait() })
			w.until("the roles are locked", func() bool {
				r, err := conn.Exec(w.ctx, "select from pg_locks where relation = 1260 and mode = 'AccessExclusiveLock' and granted").ReadAll()
				return err == nil && len(r[0].Rows) > 0
			})
		}},
		{"a postmaster that hangs", func(w *world, leader spec.Node) {
			testpg.Suspend(w.t, w.role(leader, "postgres").PID)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := demo(t)
			leader := w.Node(w.whole())
			master := w.role(leader, "postgres")
			before, err := w.Page(w.ctx)
			w.check(err)
			writer := w.write()
			writer.Stop()             // so that nothing is on its way to the standbys at the end
			w.pause(12 * time.Second) // a login is tried every 10 s, and one was answered
			tt.shut(w, leader)
			shut := time.Now()
			w.until("it is ended", func() bool { _, there := process.Of(master.PID); return !there })
			ended := time.Since(shut)
			w.sql("select 1")
			let := time.Since(shut) - ended
			next := w.leader()
			t.Logf("ended after %s, %s leads (it was %s), and clients are let in %s later", ended.Round(time.Millisecond), next, leader.Member, let.Round(time.Millisecond))
			if next == leader.Member {
				t.Errorf("%s leads again, and others had everything", next)
			}
			if ended < 25*time.Second || ended > time.Minute {
				t.Errorf("it was ended after %s", ended)
			}
			if let > 10*time.Second {
				t.Errorf("clients were let in %s after the end", let)
			}
			w.whole()
			w.voters(2)
			if page, err := w.Page(w.ctx); err != nil || page.Number == before.Number || page.Kind != cluster.KindCrash || page.To != next || !strings.Contains(strings.Join(page.Reason, " "), "let nobody in") {
				t.Errorf("why tells of %+v (%v)", page, err)
			}
			w.kept(writer)
		})
	}
}
