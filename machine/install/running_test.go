package install

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What Look prints of this machine is what it says of it.
func TestRunning(t *testing.T) {
	dir := t.TempDir()
	run, data := filepath.Join(dir, "it's run"), filepath.Join(dir, "data")
	for _, d := range []string{run, data} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pid := strconv.Itoa(os.Getpid())
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	put(filepath.Join(run, "agent.pid"), pid+" 17\n")
	put(filepath.Join(run, "jobs.pid"), strconv.Itoa(gone.Process.Pid)+" 17\n")
	put(filepath.Join(run, "empty.pid"), "")
	put(filepath.Join(run, "left.json"), "{}")
	put(filepath.Join(data, "postmaster.pid"), pid+"\n"+data+"\n1795392000\n5432\n")
	out, err := exec.Command("sh", "-c", Look([]Seat{{Member: "pg-1", Run: run, Data: data}, {Member: "pg-2", Run: filepath.Join(dir, "none"), Data: filepath.Join(dir, "none")}})).Output()
	if err != nil {
		t.Fatal(err)
	}
	r := ReadRunning(string(out))
	if want := map[string]string{"pg-1": pid + " 1795392000"}; !maps.Equal(r.Servers, want) {
		t.Errorf("servers are %v, want %v", r.Servers, want)
	}
	if want := map[string]bool{"pg-1/agent": false}; !maps.Equal(r.Roles, want) {
		t.Errorf("roles are %v, want %v", r.Roles, want)
	}
	if !slices.Equal(r.Unfinished, []string{"pg-1"}) || r.Up() {
		t.Errorf("unfinished %v, up %v", r.Unfinished, r.Up())
	}
}

func TestBehind(t *testing.T) {
	r := ReadRunning("program abc\nrole pg-1/node /usr/bin/howdah\nrole pg-1/agent /usr/bin/howdah (deleted)\nrole pg-1/jobs /usr/bin/howdah.old\n")
	if got := strings.Join(r.Behind("abc"), " "); got != "pg-1/agent pg-1/jobs" || !r.Up() {
		t.Errorf("behind are %q, up %v", got, r.Up())
	}
	if got := len(r.Behind("another")); got != 3 {
		t.Errorf("%d are behind another program, want 3", got)
	}
}

// The scripts are a shell's.
func TestScriptsParse(t *testing.T) {
	for _, script := range []string{Replace, Want{Host: "h", Member: "pg-1"}.Renew(), Look([]Seat{{"pg-1", "/run/howdah/pg-1", "/d"}})} {
		cmd := exec.Command("sh", "-n")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s\n%s", err, out, script)
		}
	}
}
