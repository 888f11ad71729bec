package host

import (
	"flag"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/test/linted"
)

var update = flag.Bool("update", false, "write testdata")

// machine is the one of testdata.
func machine(t testing.TB) Facts {
	t.Helper()
	f := Facts{
		Files: map[string]string{}, Took: 5 * time.Millisecond,
		Names: Names{"Linux", "6.1.0", "#1 SMP", "x86_64", "pg-test-1", "(none)"},
		Clock: &Clock{Synced: true, Status: 8193, Offset: -25 * time.Microsecond, Frequency: 65536 * 12},
	}
	root := os.DirFS("testdata/machine")
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(root, path)
		f.Files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Mounts = Mounts(f.Files["proc/self/mounts"])
	for i := range f.Mounts {
		m := &f.Mounts[i]
		m.Size, m.Free, m.Avail, m.Files, m.FilesFree = 1000, 500, 400, 100, 90
		m.Failed = m.Point == "/run"
	}
	return f
}

func TestMetrics(t *testing.T) {
	got := Metrics(machine(t))
	linted.Metrics(t, got)
	const golden = "testdata/machine.prom"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// absent are names that dashboards ask for and we do not have, each with its reason.
var absent = map[string]string{
	"node_processes_state":    "all processes would have to be read at each scrape; node_procs_running and _blocked are there",
	"node_bonding_active":     "only a panel of bonded networks asks for it",
	"node_hwmon_temp_celsius": "sensors of some machines take seconds to answer",
	"node_ntp_offset_seconds": "nobody asks a time server; node_timex_offset_seconds is there",
	"node_systemd_unit_state": "systemd would have to be asked over its bus",
}

// Every name that dashboards and rules ask for is told, or it is said why not.
func TestNames(t *testing.T) {
	text, err := os.ReadFile("testdata/names.txt")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for line := range strings.Lines(string(Metrics(machine(t)))) {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, _, _ := strings.Cut(rest, " ")
			told[name] = true
		}
	}
	for name := range strings.FieldsSeq(string(text)) {
		if told[name] == (absent[name] != "") {
			t.Errorf("%s: told: %v, reason why it is not: %q", name, told[name], absent[name])
		}
		delete(told, name)
	}
	if len(told) > 0 {
		t.Errorf("nobody asks for %v", slices.Sorted(maps.Keys(told)))
	}
}

func TestMounts(t *testing.T) {
	var got []string
	for _, m := range Mounts(machine(t).Files["proc/self/mounts"]) {
		got = append(got, m.Device+" on "+m.Point+map[bool]string{true: " (ro)"}[m.ReadOnly])
	}
	want := []string{"/dev/vda1 on /", "/dev/mapper/data on /pg data (ro)", "tmpfs on /run"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Whatever a kernel's files hold, what is told is Prometheus's format.
func FuzzMetrics(f *testing.F) {
	for path, text := range machine(f).Files {
		f.Add(path, text)
	}
	f.Fuzz(func(t *testing.T, path, text string) {
		facts := Facts{Files: map[string]string{path: text}, Mounts: Mounts(text)}
		Metrics(facts)
	})
}
