package install

import (
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"howdah/secret"
)

const (
	ours   = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	before = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
	theirs = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// want is what a machine is to have, and whole the facts of one that has all of it.
func want() Want {
	return Want{
		Host: "10.0.0.1", Member: "pg-a-1", Arch: "x86_64", Majors: []int{17}, Users: []string{"postgres"},
		Files: []File{
			{Path: State + "/ca/ca.key", Mode: 0o600, Sum: ours, What: "the authority's key", Keep: true, Former: []string{before}},
			{Path: Directory + "/pigsty.yml", Mode: 0o600, Sum: ours, What: "the inventory"},
			{Path: Program, Mode: 0o755, Sum: ours, What: "the program"},
			{Path: UnitFile, Mode: 0o644, Sum: ours, What: "the unit"},
		},
	}
}

func whole() Facts {
	f := Facts{
		Arch: "x86_64", System: "Debian", Addresses: []string{"127.0.0.1", "10.0.0.1"}, Systemd: true, Apt: true, Postgres: []int{15, 17}, Users: []string{"postgres"},
		Files: map[string]Has{}, Enabled: true, Active: true, Running: ours,
	}
	for _, file := range want().Files {
		f.Files[file.Path] = Has{Sum: ours, Mode: file.Mode}
	}
	return f
}

func TestDecide(t *testing.T) {
	has := func(path, sum string) func(*Want, *Facts) {
		return func(_ *Want, f *Facts) { f.Files[path] = Has{Sum: sum, Mode: f.Files[path].Mode} }
	}
	for _, tt := range []struct {
		name string
		with func(*Want, *Facts)
		want string // steps, then notes, then the codes of what is lacking
	}{
		{"a machine that has everything", func(*Want, *Facts) {}, ""},
		{"a new one", func(_ *Want, f *Facts) {
			*f = Facts{Arch: "x86_64", Systemd: true, Apt: true}
		}, "install PostgreSQL 17 (package postgresql-17) from the repositories of the machine\n" +
			"copy the authority's key to /var/lib/howdah/ca/ca.key\ncopy the inventory to /etc/howdah/pigsty.yml\n" +
			"copy the program to /usr/bin/howdah\ncopy the unit to /etc/systemd/system/howdah.service\n" +
			"have systemd read its units again\nhave howdah.service started with the machine\nstart howdah.service"},
		{"any version will do", func(w *Want, f *Facts) { w.Majors, f.Postgres = []int{0}, []int{13, 16} }, ""},
		{"none that is supported", func(w *Want, f *Facts) { w.Majors, f.Postgres = []int{0}, []int{13} }, "install PostgreSQL (package postgresql) from the repositories of the machine"},
		{"no apt", func(_ *Want, f *Facts) { f.Apt, f.Postgres = false, nil }, "[postgres-missing]"},
		{"somebody else's server", func(w *Want, f *Facts) { w.Users = []string{"dba"} }, "[user-missing]"},
		{"two servers of two versions, of which one is there", func(w *Want, _ *Facts) { w.Majors = []int{16, 17} }, "install PostgreSQL 16 (package postgresql-16) from the repositories of the machine"},
		{"two servers of two users, of whom one is there", func(w *Want, _ *Facts) { w.Users = []string{"postgres", "dba"} }, "[user-missing]"},
		{"no server at all", func(w *Want, f *Facts) { w.Majors, f.Postgres, f.Apt = nil, nil, false }, ""},
		{"no server, and nobody to run as", func(w *Want, f *Facts) { w.Majors, f.Users = nil, nil }, "make the user postgres"},
		{"another kind of machine", func(_ *Want, f *Facts) { f.Arch = "aarch64" }, "[install-platform]"},
		{"another machine", func(_ *Want, f *Facts) { f.Addresses = []string{"10.0.0.2"} }, "[host-elsewhere]"},
		{"another authority", has(State+"/ca/ca.key", theirs), "[keys-other]"},
		{"an authority of before", has(State+"/ca/ca.key", before), "copy the authority's key to /var/lib/howdah/ca/ca.key\nnote: howdah certs renew"},
		{"an authority, and none here", func(w *Want, _ *Facts) { w.Files[0].Sum = "" }, "[keys-other]"},
		{"an open key", func(_ *Want, f *Facts) { f.Files[State+"/ca/ca.key"] = Has{ours, 0o644} }, "set the permissions of /var/lib/howdah/ca/ca.key to 0600"},
		{"another inventory, where it runs", has(Directory+"/pigsty.yml", theirs), "copy the inventory to /etc/howdah/pigsty.yml\nnote: howdah apply"},
		{"another program, where it runs", func(w *Want, f *Facts) { has(Program, theirs)(w, f); f.Running = theirs }, "copy the program to /usr/bin/howdah\nnote: systemctl restart"},
		{"the program was copied before", func(_ *Want, f *Facts) { f.Running = theirs }, "note: systemctl restart"},
		{"it does not run", func(_ *Want, f *Facts) { f.Active, f.Running = false, "" }, "start howdah.service"},
		{"no systemd", func(_ *Want, f *Facts) { f.Systemd, f.Enabled, f.Active = false, false, false }, "[init-missing]"},
		{"no systemd, and it was started before", func(_ *Want, f *Facts) { f.Systemd, f.Enabled = false, false }, ""},
		{"no systemd, which is known", func(w *Want, f *Facts) {
			w.Init, f.Systemd, f.Enabled, f.Active = None, false, false, false
			delete(f.Files, UnitFile)
		}, "start the supervisor, this once\nnote: nobody starts it"},
		{"no systemd, and it runs", func(w *Want, f *Facts) { w.Init, f.Systemd, f.Enabled = None, false, false }, ""},
	} {
		w, f := want(), whole()
		tt.with(&w, &f)
		p := Decide(w, f)
		var got []string
		for _, s := range p.Steps {
			got = append(got, s.What)
			if (s.Script == "") == (s.Put == "") || s.Why == "" {
				t.Errorf("%s: the step %+v is no step", tt.name, s)
			}
		}
		for _, n := range p.Notes {
			for _, words := range []string{"nobody starts it", "systemctl restart", "howdah apply", "howdah certs renew"} {
				if strings.Contains(n, words) {
					got = append(got, "note: "+words)
				}
			}
		}
		for _, l := range p.Lacks {
			got = append(got, "["+l.Code+"]")
		}
		if got := strings.Join(got, "\n"); got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
}

// What starts comes last, when every machine has everything.
func TestStartsComeLast(t *testing.T) {
	w := want()
	for _, init := range []string{Systemd, None} {
		w.Init = init
		starting := false
		for _, s := range Decide(w, Facts{Arch: "x86_64", Systemd: init == Systemd, Apt: true}).Steps {
			if starting && !s.Start {
				t.Errorf("%s: %s comes after something was started", init, s)
			}
			starting = s.Start
		}
		if !starting {
			t.Errorf("%s: nothing is started", init)
		}
	}
}

func TestTheUnit(t *testing.T) {
	unit := want().UnitText()
	for _, line := range []string{
		"ExecStart=/usr/bin/howdah node /etc/howdah/pigsty.yml --host 10.0.0.1 --dir /var/lib/howdah",
		"KillMode=process", "RestartKillSignal=SIGUSR2", "Delegate=yes", "OOMPolicy=continue", "Restart=always", "WantedBy=multi-user.target",
	} {
		if !slices.Contains(strings.Split(unit, "\n"), line) {
			t.Errorf("no line %q in\n%s", line, unit)
		}
	}
}

// The shell runs what it is given, and what it says of this machine is understood.
func TestProbe(t *testing.T) {
	w := want()
	here := filepath.Join(t.TempDir(), "it's here")
	if err := exec.Command("sh", "-c", `umask 022; printf hello >"$1"`, "sh", here).Run(); err != nil {
		t.Fatal(err)
	}
	w.Files = append(w.Files, File{Path: here}, File{Path: "/nowhere/file"})
	for _, script := range []string{Probe(w), Alive(w)} {
		if out, err := exec.Command("sh", "-n", "-c", script).CombinedOutput(); err != nil {
			t.Errorf("%v: %s\n%s", err, out, script)
		}
	}
	out, err := exec.Command("sh", "-c", Probe(w)).Output()
	if err != nil {
		t.Fatal(err)
	}
	f, err := Read(string(out))
	if err != nil {
		t.Fatal(err)
	}
	const hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	if f.Files[here] != (Has{hello, 0o644}) || f.Arch == "" {
		t.Errorf("got %+v of\n%s", f, out)
	}
	if _, there := f.Files["/nowhere/file"]; there {
		t.Error("it sees a file that is not there")
	}
	if out, err = exec.Command("sh", "-c", Alive(want())).Output(); err != nil || !strings.HasPrefix(string(out), "down\n") && !strings.HasPrefix(string(out), "up\n") {
		t.Errorf("alive: %q, %v", out, err)
	}
}

func TestRead(t *testing.T) {
	f, err := Read("arch x86_64\nsystem Debian GNU/Linux 12\naddress 10.0.0.1\naddress 10.0.0.1\nsystemd yes\napt yes\n" +
		"postgres postgres (PostgreSQL) 17.2 (Debian 17.2-1)\npostgres postgres (PostgreSQL) 15.18\npostgres postgres (PostgreSQL) 18beta1\nuser postgres\nactive yes\n" +
		"file 600 " + ours + " /a path\n")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(f.Postgres, []int{15, 17, 18}) || !slices.Equal(f.Addresses, []string{"10.0.0.1"}) || !maps.Equal(f.Files, map[string]Has{"/a path": {ours, 0o600}}) || !slices.Equal(f.Users, []string{"postgres"}) || f.Enabled || !f.Active {
		t.Errorf("got %+v", f)
	}
	for _, text := range []string{"", "systemd yes\n", "arch x\nfile 600\n", "arch x\nfile 9x9 " + ours + " /p\n"} {
		if _, err := Read(text); err == nil {
			t.Errorf("Read(%q) is no error", text)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("arch x86_64\nfile 600 " + ours + " /p\npostgres postgres (PostgreSQL) 17.2\n")
	f.Fuzz(func(t *testing.T, text string) {
		facts, err := Read(text)
		if err == nil {
			Decide(want(), facts)
		}
	})
}

func TestPasswords(t *testing.T) {
	type m = map[string]secret.Text
	for _, tt := range []struct {
		name                string
		given, ours, theirs m
		want                m
		other               string
	}{
		{"a new machine", m{"replicator": ""}, m{"replicator": "x"}, nil, m{"replicator": "x"}, ""},
		{"the same", m{"replicator": ""}, m{"replicator": "x"}, m{"replicator": "x", "more": "y"}, m{"replicator": "x", "more": "y"}, ""},
		{"one more", m{"replicator": "", "app": ""}, m{"replicator": "x", "app": "z"}, m{"replicator": "x"}, m{"replicator": "x", "app": "z"}, ""},
		{"another cluster's", m{"replicator": ""}, m{"replicator": "x"}, m{"replicator": "y"}, m{"replicator": "y"}, "replicator"},
		{"a new one in the inventory is apply's work", m{"app": "new"}, m{"app": "new"}, m{"app": "old"}, m{"app": "old"}, ""},
	} {
		all, other := Passwords(tt.given, tt.ours, tt.theirs)
		if !maps.Equal(all, tt.want) || strings.Join(other, " ") != tt.other {
			t.Errorf("%s: got %d passwords and %v; want %d and %q", tt.name, len(all), other, len(tt.want), tt.other)
		}
	}
}
