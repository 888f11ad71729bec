package doctor

import (
	"os/exec"
	"strings"
	"testing"
)

// What is wrong and safe is mended, once, and what is well is left alone.
func TestMends(t *testing.T) {
	yes, no := true, false
	well := Facts{
		Subject: Subject{Host: "10.0.0.1"}, Addresses: []string{"10.0.0.1"}, Host: "db-1", OwnName: []string{"10.0.0.1"}, Localhost: []string{"127.0.0.1"},
		Synced: &yes, SwapKB: 1 << 20,
		Kernel: map[string]string{"vm.overcommit_memory": "0", "vm.swappiness": "1", "net.core.somaxconn": "4096\n", "vm.panic_on_oom": "0", "transparent_hugepage": "always [madvise] never"},
		Places: []Place{{What: "the passwords", Path: "/d/secrets.json", Mode: 0o600}, {What: "the data", Path: "/d/data", Mode: 0o755}},
	}
	kernel := func(name, value string) func(*Facts) {
		return func(f *Facts) { f.Kernel = map[string]string{name: value} }
	}
	for _, tt := range []struct {
		name string
		with func(*Facts)
		want string
	}{
		{"all is well", func(*Facts) {}, ""},
		{"what can not be seen", func(f *Facts) { f.Synced, f.Kernel = nil, nil }, ""},
		{"the clock", func(f *Facts) { f.Synced = &no }, "have a time service steer the clock"},
		{"localhost", func(f *Facts) { f.Localhost = nil }, "make localhost known"},
		{"its own name", func(f *Facts) { f.OwnName = nil }, "make the machine's own name known"},
		{"a name that is none", func(f *Facts) { f.OwnName, f.Host = nil, "a'; reboot" }, ""},
		{"a name without an address", func(f *Facts) { f.OwnName, f.Addresses = nil, nil }, ""},
		{"overcommit", kernel("vm.overcommit_memory", "1"), "set vm.overcommit_memory to 0, which is 1"},
		{"strict overcommit is somebody's choice", kernel("vm.overcommit_memory", "2"), ""},
		{"swap", kernel("vm.swappiness", "60"), "set vm.swappiness to 1, which is 60"},
		{"connections", kernel("net.core.somaxconn", "128"), "set net.core.somaxconn to 4096, which is 128"},
		{"panic", kernel("vm.panic_on_oom", "1"), "set vm.panic_on_oom to 0, which is 1"},
		{"huge pages for all", kernel("transparent_hugepage", "[always] madvise never"), "have transparent huge pages made only for who asks for them"},
		{"passwords", func(f *Facts) { f.Places = []Place{{What: "the passwords", Path: "/d/s", Mode: 0o644}} }, "keep others from reading the passwords"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := well
			tt.with(&f)
			var said []string
			for _, m := range Mends(f) {
				said = append(said, m.What)
				cmd := exec.Command("sh", "-n")
				cmd.Stdin = strings.NewReader(m.Script)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s: %v %s", m.Script, err, out)
				}
			}
			if got := strings.Join(said, "; "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// A line takes the place of the one that it mends, and others stay.
func TestKeep(t *testing.T) {
	file := t.TempDir() + "/conf"
	script := keep + "printf 'a = 1\\nb = 2\\n' >" + file + "\nkeep " + file + " 'a =' 'a = 3'\nkeep " + file + " 'a =' 'a = 3'\ncat " + file
	out, err := exec.Command("sh", "-c", script).CombinedOutput()
	if err != nil || string(out) != "b = 2\na = 3\n" {
		t.Errorf("%q, %v", out, err)
	}
}
