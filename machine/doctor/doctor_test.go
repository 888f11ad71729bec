package doctor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func ptr[T any](v T) *T { return &v }

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// well is a machine on which nothing is wrong.
func well() Facts {
	return Facts{
		Subject: Subject{
			Host: "10.0.0.1", Member: "pg-a-1", User: "postgres", Server: true, Major: 17, Libraries: []string{"auto_explain"},
			Ports: []Port{{"PostgreSQL", "10.0.0.1", 5432}, {"the agent", "10.0.0.1", 8008}}, Shared: 1 << 30, HugePages: "try",
		},
		Root: true, Host: "db1", Addresses: []string{"127.0.0.1", "10.0.0.1"}, Synced: ptr(true), MaxError: 20 * time.Millisecond,
		OpenFiles: 1 << 20, MemoryKB: 64 << 20, SwapKB: 1 << 20, HugeKB: 2048,
		Kernel: map[string]string{
			"vm.overcommit_memory": "2", "vm.swappiness": "1", "transparent_hugepage": "always [madvise] never", "net.core.somaxconn": "4096", "vm.panic_on_oom": "0",
		},
		Flushes: slices.Repeat([]time.Duration{time.Millisecond}, 60), FlushDir: "/var/lib/howdah",
		Localhost: []string{"127.0.0.1", "::1"}, OwnName: []string{"10.0.0.1"}, Resolving: time.Millisecond,
		Postgres: []Installed{{17, "17.2", "/usr/lib/postgresql/17/bin"}}, User: ptr(true),
		Disks:  []Disk{{"the state directory", "/var/lib/howdah", 100 << 30, 60 << 30, 1000, 900}},
		Places: []Place{{"the data", "/d", 0o700, "postgres", true}, {"the passwords", "/s", 0o600, "postgres", true}, {"the keys", "/k", 0o600, "root", false}},
		Certs:  []Cert{{Path: "/c", Until: noon.AddDate(5, 0, 0)}}, At: noon, Login: "logged in as root",
	}
}

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name string
		with func(*Facts)
		want string // what is not ok: grade, check and a word of the evidence or the remedy
	}{
		{"all is well", func(*Facts) {}, ""},
		{"not this machine", func(f *Facts) { f.Addresses = []string{"10.0.0.2"} }, "fail address: 10.0.0.2"},
		{"nobody steers the clock", func(f *Facts) { f.Synced = ptr(false) }, "warn clock: chrony"},
		{"the clock may be wrong", func(f *Facts) { f.MaxError = 3 * time.Second }, "warn clock: wrong by 3s"},
		{"the clock is not seen", func(f *Facts) { f.Synced = nil }, "unknown clock: does not say"},
		{"no localhost", func(f *Facts) { f.Localhost = nil }, "fail names: not known"},
		{"no name", func(f *Facts) { f.OwnName = nil }, "warn names: db1"},
		{"slow names", func(f *Facts) { f.Resolving = 2 * time.Second }, "warn names: resolv.conf"},
		{"a port of somebody else", func(f *Facts) { f.Held = []Held{{f.Subject.Ports[0], "postgres (pid 7) on 10.0.0.1:5432"}} }, "fail ports: port 5432 of PostgreSQL is held by postgres (pid 7)"},
		{"our own ports", func(f *Facts) {
			f.Supervisor = 6
			f.Held = []Held{{f.Subject.Ports[0], "postgres (pid 7)"}, {f.Subject.Ports[1], "howdah (pid 8)"}}
		}, ""},
		{"ours and a stranger's", func(f *Facts) {
			f.Supervisor = 6
			f.Held = []Held{{f.Subject.Ports[0], "postgres (pid 7)"}, {f.Subject.Ports[1], "python3 (pid 8)"}}
		}, "fail ports: python3"},
		{"hardly any files", func(f *Facts) { f.OpenFiles = 1024 }, "fail limits: 1024"},
		{"few files", func(f *Facts) { f.OpenFiles = 16384 }, "warn limits: LimitNOFILE"},
		{"no limit seen", func(f *Facts) { f.OpenFiles = 0 }, "unknown limits: not to be seen"},
		{"large buffers in small pages", func(f *Facts) { f.Subject.Shared = 16 << 30 }, "warn huge pages: vm.nr_hugepages=9075"},
		{"large buffers in huge pages", func(f *Facts) { f.Subject.Shared, f.HugeTotal = 16<<30, 9075 }, ""},
		{"huge pages that must be there", func(f *Facts) { f.Subject.HugePages = "on" }, "fail huge pages: huge_pages is on"},
		{"huge pages for nobody", func(f *Facts) { f.HugeTotal = 16 << 10 }, "warn huge pages: nothing else can use"},
		{"memory promised to everybody", func(f *Facts) { f.Kernel["vm.overcommit_memory"] = "1" }, "warn kernel: vm.overcommit_memory=2"},
		{"swapping", func(f *Facts) { f.Kernel["vm.swappiness"] = "60" }, "warn kernel: vm.swappiness=1"},
		{"no swap", func(f *Facts) { f.Kernel["vm.swappiness"], f.SwapKB = "60", 0 }, ""},
		{"huge pages by themselves", func(f *Facts) { f.Kernel["transparent_hugepage"] = "[always] madvise never" }, "warn kernel: madvise"},
		{"few may knock", func(f *Facts) { f.Kernel["net.core.somaxconn"] = "128" }, "warn kernel: somaxconn"},
		{"panic", func(f *Facts) { f.Kernel["vm.panic_on_oom"] = "1" }, "warn kernel: panic_on_oom"},
		{"no kernel", func(f *Facts) { f.Kernel = nil }, "unknown kernel: no setting"},
		{"a slow disk", func(f *Facts) { f.Flushes = slices.Repeat([]time.Duration{15 * time.Millisecond}, 60) }, "warn flush: takes 15ms"},
		{"a disk that stalls", func(f *Facts) { f.Flushes[30] = 300 * time.Millisecond }, "warn flush: 300ms at worst of 60"},
		{"hardly a disk", func(f *Facts) { f.Flushes = slices.Repeat([]time.Duration{150 * time.Millisecond}, 20) }, "fail flush: faster"},
		{"nothing may be written", func(f *Facts) { f.Flushes, f.FlushError = nil, "permission denied" }, "unknown flush: permission denied"},
		{"a full disk", func(f *Facts) { f.Disks[0].Free = 1 << 29 }, "fail disk: 512 MB free of 100 GB"},
		{"little room", func(f *Facts) { f.Disks[0].Free = 10 << 30 }, "warn disk: 10 GB free"},
		{"no inodes", func(f *Facts) { f.Disks[0].Left = 10 }, "warn disk: 10 inodes"},
		{"no PostgreSQL", func(f *Facts) { f.Postgres = nil }, "fail postgres: PostgreSQL 17 is wanted, and there is none"},
		{"another PostgreSQL", func(f *Facts) { f.Postgres = []Installed{{15, "15.18", ""}} }, "fail postgres: there is 15.18"},
		{"a library", func(f *Facts) { f.Missing = []string{"timescaledb"} }, "fail postgres: timescaledb"},
		{"no user", func(f *Facts) { f.User = ptr(false) }, "fail postgres: useradd"},
		{"open data", func(f *Facts) { f.Places[0].Mode = 0o755 }, "fail permissions: chmod 700 /d"},
		{"data for a group", func(f *Facts) { f.Places[0].Mode = 0o750 }, ""},
		{"root's data", func(f *Facts) { f.Places[0].Owner = "root" }, "fail permissions: root's"},
		{"open passwords", func(f *Facts) { f.Places[1].Mode = 0o644 }, "fail permissions: others can read it"},
		{"open keys", func(f *Facts) { f.Places[2].Mode = 0o640 }, "fail permissions: chmod 600 /k"},
		{"a closed door", func(f *Facts) { f.Places[0].Enter = false }, "fail permissions: postgres can not come there"},
		{"a certificate for a fortnight", func(f *Facts) { f.Certs[0].Until = noon.AddDate(0, 0, 14) }, "warn certificates: 2026-12-06"},
		{"for some days", func(f *Facts) { f.Certs[0].Until = noon.AddDate(0, 0, 3) }, "fail certificates: 2026-11-25"},
		{"one that is over", func(f *Facts) { f.Certs[0].Until = noon.AddDate(0, 0, -1) }, "fail certificates: it is over"},
		{"one that is none", func(f *Facts) { f.Certs[0].Error = "asn1" }, "fail certificates: asn1"},
	} {
		f := well()
		tt.with(&f)
		all := Judge(f)
		var bad []Finding
		for _, found := range all {
			switch {
			case found.Evidence == "" || found.Host != "10.0.0.1":
				t.Errorf("%s: nothing is said by %+v", tt.name, found)
			case found.Grade == OK && found.Do != "":
				t.Errorf("%s: what is well is not to be mended: %+v", tt.name, found)
			case found.Grade != OK && found.Grade != Unknown && found.Do == "":
				t.Errorf("%s: how to mend %+v?", tt.name, found)
			}
			if found.Grade != OK {
				bad = append(bad, found)
			}
		}
		head, word, _ := strings.Cut(tt.want, ": ")
		switch {
		case tt.want == "" && len(bad) > 0, tt.want != "" && len(bad) != 1:
			t.Errorf("%s: got %+v, want %q", tt.name, bad, tt.want)
		case tt.want != "" && (fmt.Sprint(bad[0].Grade, " ", bad[0].Check) != head || !strings.Contains(bad[0].Evidence+" "+bad[0].Do, word)):
			t.Errorf("%s: got %+v, want %q", tt.name, bad[0], tt.want)
		}
	}
}

// A machine of which nothing is known is judged without an error, and nothing of it
// is called well that was not seen.
func TestJudgeNothing(t *testing.T) {
	for _, f := range Judge(Facts{}) {
		if f.Grade == OK {
			t.Errorf("nobody saw that %+v", f)
		}
	}
}

func TestCompare(t *testing.T) {
	at := func(offsets ...time.Duration) (all []Facts) {
		for i, o := range offsets {
			all = append(all, Facts{Subject: Subject{Host: fmt.Sprint("h", i)}, Offset: ptr(o), Uncertainty: 10 * time.Millisecond})
		}
		return all
	}
	for _, tt := range []struct {
		all  []Facts
		want string
	}{
		{nil, ""},
		{at(time.Hour), ""},
		{append(at(0), Facts{}), ""},
		{at(0, 300*time.Millisecond), "ok"},
		{at(0, 510*time.Millisecond), "ok"}, // it may be less
		{at(0, time.Second, -time.Second), "warn"},
		{at(-time.Minute, 0), "fail"},
	} {
		found := Compare(tt.all)
		got := ""
		if len(found) > 0 {
			got = string(found[0].Grade)
		}
		if got != tt.want {
			t.Errorf("%v: got %+v, want %s", tt.all, found, tt.want)
		}
	}
	if f := Compare(at(0, time.Second, -time.Minute))[0]; !strings.Contains(f.Evidence, "h2 and h1") || !strings.Contains(f.Evidence, "1m1s") {
		t.Errorf("got %+v", f)
	}
}

func TestWorst(t *testing.T) {
	if got := Worst([]Finding{{Grade: Warn}, {Grade: OK}, {Grade: Unknown}}); got != Warn {
		t.Errorf("got %s", got)
	}
	if got := Worst(nil); got != OK {
		t.Errorf("nothing: got %s", got)
	}
}
