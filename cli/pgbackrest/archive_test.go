package pgbackrest

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"howdah/backup/repo"
)

// A process that works ahead is called with the options of the command that began
// it, and no other command has one.
func TestAsynchronousCommand(t *testing.T) {
	c, err := parse([]string{conf(t, ""), "--stanza", "t", "archive-push", "--no-delta", "--process-max=3", "pg_wal/000000010000000000000001"}, nil)
	if repo.ClassOf(err) != repo.OptionInvalid { // delta is none of its options
		t.Fatalf("%v", err)
	}
	at := conf(t, "")
	if c, err = parse([]string{at, "--stanza", "t", "archive-push", "--process-max=3", "pg_wal/000000010000000000000001"}, nil); err != nil {
		t.Fatal(err)
	}
	if want := []string{at, "--stanza", "t", "--process-max=3"}; !slices.Equal(c.options, want) {
		t.Errorf("its options are %q, want %q", c.options, want)
	}
	if c, err = parse(append(c.options, "archive-push:async", "/wal"), nil); err != nil || c.name != "archive-push" || !c.async || c.number("process-max") != 3 {
		t.Errorf("it is read as %s, async=%t, %v", c.name, c.async, err)
	}
	if _, err = parse([]string{at, "backup:async"}, nil); repo.ClassOf(err) != repo.CommandInvalid {
		t.Errorf("backup:async: %v", err)
	}
}

// What was noted of a file is what the archiver hears: it is pushed, or why not.
func TestPushAsyncIsTold(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "spool/archive/t/out")
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	wal := filepath.Join(dir, "000000010000000000000001")
	for name, text := range map[string]string{
		wal: "", filepath.Join(out, "000000010000000000000001.ok"): "0\nit was there",
		// Nobody pushes the other one: this program ends as soon as it begins.
		filepath.Join(out, "000000010000000000000002.error"): "45\nanother content",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	push := func(path string, self ...string) (int, string) {
		var said bytes.Buffer
		code := Run(t.Context(), []string{
			conf(t, "[global]\nlog-level-file=off\n"), "--stanza=t", "--repo1-path=" + dir, "--pg1-path=" + dir, "--lock-path=" + dir,
			"--archive-async", "--archive-timeout=0.5", "--spool-path=" + dir + "/spool", "archive-push", path,
		}, Process{Out: &said, Err: &said, Self: self})
		return code, said.String()
	}
	if code, said := push(wal); code != 0 || !strings.Contains(said, "it was there") {
		t.Errorf("exit %d: %s", code, said)
	}
	if code, said := push(filepath.Join(dir, "000000010000000000000002"), "/bin/false"); code != int(repo.Runtime) || !strings.Contains(said, "works ahead") {
		t.Errorf("a process that fails: exit %d: %s", code, said)
	}
	// Whoever works in a data directory is taken for its server: this process does not.
	where := filepath.Join(dir, "where")
	t.Chdir(dir)
	push(filepath.Join(dir, "000000010000000000000002"), "/bin/sh", "-c", "pwd >"+where+"; false")
	if at, err := os.ReadFile(where); err != nil || string(at) != "/\n" {
		t.Errorf("it works in %q, %v", at, err)
	}
	if code, said := push(filepath.Join(dir, "000000010000000000000002"), "/bin/true"); code != int(repo.ArchiveTimeout) {
		t.Errorf("a process that does nothing: exit %d: %s", code, said)
	}
}
