package interop

import (
	"context"
	"math/rand/v2"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kill runs ours and kills it after a while, unless it is done before.
func (l *lab) kill(after time.Duration, args ...string) (died bool) {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), after) // the end of it kills
	defer cancel()
	cmd := exec.CommandContext(ctx, ours, append([]string{"--config=" + l.conf, "--stanza=t"}, args...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/tmp", "PGUSER=postgres", "TZ=UTC"}
	if uid, gid, ok := account(l); ok {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	return cmd.Run() != nil
}

// However ours dies in the middle of a backup or of its removal, the real one
// finds a good repository there, and goes on with it; and so do we.
func TestKilledAnywhere(t *testing.T) {
	l := newLab(t, setting{compress: "zst", lines: "repo1-retention-archive=1\n"})
	l.with(ours, "stanza-create")
	l.fill()
	l.with(ours, "--type=full", "backup")
	rounds := 4
	if *wide {
		rounds = 40
	}
	r := rand.New(rand.NewPCG(6, 45)) // the moments are another machine's anyway
	killed := 0
	for i := range rounds {
		l.grow()
		kind := []string{"full", "incr"}[i%2]
		if l.kill(200*time.Millisecond+time.Duration(r.IntN(2500))*time.Millisecond, "--type="+kind, "--repo1-retention-full=1", "backup") {
			killed++
		}
		for _, program := range []string{ours, theirs} {
			out := l.with(program, "verify", "--output=text", "--verbose")
			if strings.Contains(out, "status: invalid") || strings.Contains(out, "status: error") {
				t.Fatalf("round %d: %s says\n%s", i, program, out)
			}
		}
		next := []string{theirs, ours}[i%2]
		l.with(next, "--type=incr", "backup")
		l.clean()
	}
	if killed == 0 {
		t.Error("no backup was killed: the test tested nothing")
	}
	want := l.grow()
	l.archived()
	if got := l.restore(theirs).query(rows); got != want {
		t.Errorf("restored %s, want %s", got, want)
	}
}
