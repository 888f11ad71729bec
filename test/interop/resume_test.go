package interop

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// interrupt kills a full backup once it has noted that files are stored, and names it.
func (l *lab) interrupt(program string, args ...string) (label string) {
	l.Helper()
	ctx, cancel := context.WithCancel(l.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{"--config=" + l.conf, "--stanza=t", "--type=full", "--manifest-save-threshold=1", "--compress-level=15", "backup"}, args...)...) // the end of ctx kills
	as(l, cmd)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // the real one has workers, who hold the lock as long as they live
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Start(); err != nil {
		l.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		found, _ := filepath.Glob(filepath.Join(l.dir, "repo/backup/t/*/backup.manifest.copy"))
		for _, name := range found {
			if _, err := os.Stat(strings.TrimSuffix(name, ".copy")); err == nil {
				continue
			}
			if text, _ := os.ReadFile(name); strings.Count(string(text), `"checksum":`) > 2 {
				label = filepath.Base(filepath.Dir(name))
			}
		}
		select {
		case err := <-ended:
			l.Fatalf("%s was done before it was killed: %v", program, err)
		case <-time.After(2 * time.Millisecond):
		}
		if label != "" {
			cancel()
			<-ended
			l.await("its workers are gone", func() bool { return syscall.Kill(-cmd.Process.Pid, 0) != nil })
			return label
		}
	}
}

// A full backup that was interrupted is gone on with, by whichever program: what is
// stored already stays, but where it was damaged or the cluster has changed since.
func TestResume(t *testing.T) {
	for _, tt := range []struct {
		name        string
		first, next string
		bundle      bool
	}{
		{"ours-theirs", ours, theirs, false},
		{"theirs-ours", theirs, ours, false},
		{"ours-ours", ours, ours, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !*wide && tt.first != theirs {
				t.Skip("takes longer than there is time by day: -interop")
			}
			lines := ""
			if tt.bundle {
				lines = "repo1-bundle-limit=8KiB\nrepo1-bundle-size=64KiB\n"
			}
			l := newLab(t, setting{compress: "zst", bundle: tt.bundle, lines: lines + "log-level-console=detail\n"})
			l.with(ours, "stanza-create")
			l.fill()
			for _, name := range strings.Split("abcdefghijkl", "") {
				l.server.Query("create table large_" + name + " as select g, md5(g::text || '" + name + "') m from generate_series(1, 60000) g")
			}
			l.server.Query("checkpoint")
			label := l.interrupt(tt.first)
			l.grow() // files change, which were stored or were not
			damaged := ""
			if !tt.bundle && tt.next == ours {
				damaged = l.damage(label)
			}
			out := l.with(tt.next, "--type=full", "backup")
			if !strings.Contains(out, "resumable backup "+label) || strings.Count(out, "checksum resumed") < 2 || !strings.Contains(out, "new backup label = "+label) {
				t.Errorf("%s was not gone on with:\n%s", label, out)
			}
			t.Logf("%d files were kept", strings.Count(out, "checksum resumed"))
			if damaged != "" && !strings.Contains(out, damaged+" of the resumed backup is not as it was stored") {
				t.Errorf("that %s was damaged is not said", damaged)
			}
			want := l.grow()
			l.archived()
			for _, program := range []string{ours, theirs} {
				if out := l.with(program, "verify", "--output=text", "--verbose"); !strings.Contains(out, "status: ok") {
					t.Errorf("%s says\n%s", program, out)
				}
				if got := l.restore(program).query(rows); got != want {
					t.Errorf("%s restores %s, want %s", program, got, want)
				}
			}
			l.with(tt.next, "--type=incr", "backup")
		})
	}
}

// damage turns a byte of one file that the copy of the manifest says was stored.
func (l *lab) damage(label string) string {
	l.Helper()
	text, err := os.ReadFile(filepath.Join(l.dir, "repo/backup/t", label, "backup.manifest.copy"))
	if err != nil {
		l.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, rest, ok := strings.Cut(line, "=")
		path := filepath.Join(l.dir, "repo/backup/t", label, name+".zst")
		if !ok || !strings.Contains(rest, `"checksum":`) || !strings.HasPrefix(name, "pg_data/base/") {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			l.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(path, data, 0o640); err != nil {
			l.Fatal(err)
		}
		return name
	}
	l.Fatal("no file is stored")
	return ""
}
