package control

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"howdah/backup/keep"
	"howdah/backup/repo"
	"howdah/problem"
	"howdah/spec"
)

// A backup that is broken is told from a drill that broke, and what cannot be told
// is no alarm.
func TestWhoseFaultADrillIs(t *testing.T) {
	restore := func(err error) error { return &problem.Error{Code: "restore-failed", What: "x", Why: "y", Err: err} }
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"damaged object":         {restore(repo.Errorf(repo.Checksum, "damaged")), true},
		"missing object":         {restore(&fs.PathError{Op: "open", Path: "backup/x", Err: fs.ErrNotExist}), true},
		"nothing to reach it by": {&problem.Error{Code: "restore-unreachable"}, true},
		"wrong pages":            {&evidence{"pg_checksums: no"}, true},
		"the log does not fit":   {restore(evidenceIn("FATAL:  WAL ends before end of online backup")), true},
		"no shared memory":       {restore(evidenceIn("FATAL:  could not create shared memory segment: No space left on device")), false},
		"no room":                {restore(fmt.Errorf("write: %w", syscall.ENOSPC)), false},
		"no room, by a problem":  {&problem.Error{Code: "disk-full"}, false},
		"a store that is away":   {restore(repo.Errorf(repo.HostConnect, "no answer")), false},
		"a program that is not":  {&fs.PathError{Op: "exec", Path: "/usr/bin/postgres", Err: fs.ErrNotExist}, false},
		"not allowed":            {restore(fmt.Errorf("open: %w", fs.ErrPermission)), false},
		"anything else":          {errors.New("out of the blue"), false},
	} {
		if got := ofBackup(tt.err); got != tt.want {
			t.Errorf("%s: of the backup is %t, want %t (%v)", name, got, tt.want, tt.err)
		}
	}
}

// The last drill of all members is the cluster's; one that failed is a problem
// until another passes, and when one passed is not forgotten.
func TestTheLastDrill(t *testing.T) {
	n := spec.Node{Member: "demo-2", Paths: spec.Paths{Dir: t.TempDir()}}
	at := time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)
	drilled := func(verdict string, at time.Time) *keep.Drill {
		d := &keep.Drill{Began: at, Verdict: verdict, Backup: "20261122-010000F", From: "demo-1", Why: "because"}
		if err := d.Record(n, -1, -1); err != nil {
			t.Fatal(err)
		}
		got, err := keep.LastDrill(n)
		if err != nil || got == nil || got.Verdict != verdict {
			t.Fatalf("%+v, %v", got, err)
		}
		return got
	}
	passed := drilled(keep.Passed, at)
	failed := drilled(keep.Failed, at.Add(time.Hour))
	if !passed.Last.Equal(at) || !failed.Last.Equal(at) {
		t.Errorf("one passed at %s, or %s; want %s", passed.Last, failed.Last, at)
	}
	broke := drilled(keep.Broke, at.Add(2*time.Hour))
	for _, tt := range []struct {
		name   string
		drills [3]*keep.Drill
		last   *keep.Drill
		wrong  string // member whose problem it is
	}{
		{"none", [3]*keep.Drill{}, nil, ""},
		{"one passed", [3]*keep.Drill{passed}, passed, ""},
		{"then one failed beside another member", [3]*keep.Drill{passed, failed}, failed, "demo-2"},
		{"then one broke, which says nothing", [3]*keep.Drill{passed, broke}, broke, "demo-2"},
		{"then one passed", [3]*keep.Drill{nil, broke, drilled(keep.Passed, at.Add(3*time.Hour))}, nil, ""},
	} {
		b := Backups{Cluster: "demo"}
		for i, d := range tt.drills {
			b.Members = append(b.Members, keep.State{Member: fmt.Sprintf("demo-%d", i+1), Drill: d})
		}
		if _, d := b.LastDrill(); tt.last != nil && d != tt.last {
			t.Errorf("%s: the last is %+v", tt.name, d)
		}
		wrong := ""
		for _, p := range b.problems(at) {
			wrong += p.Member
			if p.Code != "drill-failed" || !strings.Contains(p.Why, "backup 20261122-010000F of demo-1, tried at 2026-11-22T05:00:00Z: because") {
				t.Errorf("%s: %+v", tt.name, p)
			}
		}
		if wrong != tt.wrong {
			t.Errorf("%s: wrong beside %q, want %q", tt.name, wrong, tt.wrong)
		}
	}
	if err := os.WriteFile(filepath.Join(n.Paths.Dir, "drill.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keep.LastDrill(n); err == nil {
		t.Error("half a file is read")
	}
}
