// Package install says what a machine lacks to run its share of an inventory, and
// which steps give it that.
//
// It is a pure function of what is wanted and of what was found there; the probe, a
// shell script that only looks, stands beside the reader of its answer. A step that
// is not needed is none: of a machine that has everything the steps are empty. What
// belongs to somebody else (another authority, a machine of another kind) is never
// replaced but named.
package install

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"howdah/pg"
	"howdah/problem"
)

// Places on a machine.
const (
	Program   = "/usr/bin/howdah"
	Directory = "/etc/howdah" // of the inventory
	State     = "/var/lib/howdah"
	Run       = "/run/howdah"
	Log       = State + "/howdah.log" // of a supervisor that no init system started
	Unit      = "howdah.service"
	UnitFile  = "/etc/systemd/system/" + Unit
)

// Ways to start the supervisor.
const (
	Systemd = "systemd"
	None    = "none" // once, by the installation itself
)

// A Want is what one machine is to have.
type Want struct {
	Host   string   // as the inventory names it
	Member string   // the first of its nodes
	Arch   string   // that the program was built for, as uname -m says it
	Majors []int    // the versions of its servers, each once; 0: any that is supported; none: it has no server
	Users  []string // whose the nodes are, each once
	Init   string   // "": systemd, where there is one
	Files  []File   // in the order they are put there

	Settings []Setting // what the inventory says of the machine itself
}

// A File is one that the machine is to have.
type File struct {
	Path string
	Mode fs.FileMode
	Sum  string // SHA-256; "": it is made only when the work begins
	Size int64
	What string // it is: "the program"
	Keep bool   // another one that is there belongs to somebody: it is not replaced

	Former []string // SHA-256 of what it was before: who has that is behind
}

// Command is how the supervisor is started, word by word.
func (w Want) Command() []string {
	return []string{Program, "node", w.Inventory(), "--host", w.Host, "--dir", State}
}

// Inventory is where the machine has it.
func (w Want) Inventory() string { return Directory + "/pigsty.yml" }

// PID is the file with the supervisor's process.
func (w Want) PID() string { return Run + "/" + w.Member + "/node.pid" }

// UnitText is the unit by which systemd runs the supervisor. Its roles and the server
// outlive it (KillMode), have cgroups of their own (Delegate), and the kernel's choice
// among them when memory ends is no reason to stop the others (OOMPolicy). A restart
// of the unit leaves the roles to the next supervisor (RestartKillSignal, which systemd
// has since version 244; an older one stops them); to stop it stops the node. One that
// dies is started again at once, however often: a watchdog that it left counting gives
// the next two seconds, or half a lease.
func (w Want) UnitText() string {
	return `# Written by "howdah install".
[Unit]
Description=Howdah, PostgreSQL that stays up
Wants=network-online.target
After=network-online.target time-sync.target
StartLimitIntervalSec=0

[Service]
ExecStart=` + strings.Join(w.Command(), " ") + `
KillMode=process
RestartKillSignal=SIGUSR2
Delegate=yes
OOMPolicy=continue
Restart=always
RestartSec=200ms
TimeoutStopSec=120
LimitNOFILE=` + strconv.Itoa(openFiles) + `
TasksMax=infinity

[Install]
WantedBy=multi-user.target
`
}

// openFiles is how many a process of the machine's may have open: a gateway has two a client.
const openFiles = 1 << 20

// Facts are what the probe found.
type Facts struct {
	Arch      string
	System    string   // "Debian GNU/Linux 12 (bookworm)"
	Addresses []string // of its interfaces; none: it does not say
	Systemd   bool
	Apt       bool
	Postgres  []int          // versions whose programs are there
	Users     []string       // those of the nodes' users that are there
	Files     map[string]Has // those that are there, by path
	Enabled   bool           // the unit is started with the machine
	Active    bool           // a supervisor runs
	Running   string         // SHA-256 of the program that it runs
	Settings  map[int]Found  // of Want's, by their place there
}

// A Has is a file that is there.
type Has struct {
	Sum  string
	Mode fs.FileMode
}

// A Step is one thing to do. It has a script for root's shell, or puts a file.
type Step struct {
	What   string `json:"what"` // "copy the program, /usr/bin/howdah"
	Why    string `json:"why"`
	Script string `json:"-"`
	Put    string `json:"-"` // path of the file
	Start  bool   `json:"-"` // it comes when every machine has everything
}

func (s Step) String() string { return s.What }

// A Plan is what is to be done on one machine.
type Plan struct {
	Steps []Step           `json:"steps"`
	Notes []string         `json:"notes"` // what a person might want to do
	Lacks []*problem.Error `json:"lacks"` // why nothing can be done
}

// Decide says what w lacks of what was found.
func Decide(w Want, f Facts) Plan {
	p := Plan{Steps: []Step{}, Notes: []string{}, Lacks: []*problem.Error{}}
	p.platform(w, f)
	p.address(w, f)
	p.settle(w, f)
	p.postgres(w, f)
	init := w.Init
	if init == "" && f.Systemd {
		init = Systemd
	}
	p.start(w, f, init, p.files(w, f, init == Systemd))
	if len(p.Lacks) > 0 {
		p.Steps = []Step{}
	}
	return p
}

func (p *Plan) lack(e *problem.Error) { p.Lacks = append(p.Lacks, e) }

func (p *Plan) platform(w Want, f Facts) {
	if f.Arch != w.Arch {
		p.lack(&problem.Error{
			Code: "install-platform", What: "cannot install on " + w.Host, Why: "the machine is " + f.Arch + ", and this program is for " + w.Arch,
			Do: "run `howdah install --host " + w.Host + "` with the program that was built for it",
		})
	}
}

// address sees that this is the machine that is meant: its servers listen on the
// address by which the inventory names it.
func (p *Plan) address(w Want, f Facts) {
	if len(f.Addresses) == 0 || slices.Contains(f.Addresses, w.Host) {
		return
	}
	p.lack(&problem.Error{
		Code: "host-elsewhere", What: "cannot install on " + w.Host, Why: "the machine that answers has the addresses " + strings.Join(f.Addresses, ", "),
		Do: "see that ansible_host leads to the machine that has the address " + w.Host + ", and that it has it",
	})
}

// postgres brings the server's programs. The distribution would make a cluster of its
// own on port 5432 while it installs, unless it is told before.
func (p *Plan) postgres(w Want, f Facts) {
	missing := slices.DeleteFunc(slices.Clone(w.Users), func(u string) bool { return slices.Contains(f.Users, u) })
	if len(w.Majors) == 0 {
		for _, u := range missing {
			p.Steps = append(p.Steps, Step{
				What: "make the user " + u, Why: "what runs there runs as it, and it is not there",
				Script: "useradd --system --user-group --no-create-home --home-dir " + State + " --shell /usr/sbin/nologin " + quote(u),
			})
		}
		return
	}
	majors := slices.DeleteFunc(slices.Clone(w.Majors), func(major int) bool {
		return slices.ContainsFunc(f.Postgres, func(there int) bool {
			return there == major || major == 0 && there >= pg.OldestMajor && there <= pg.NewestMajor
		})
	})
	for _, u := range missing {
		if u == "postgres" && len(majors) > 0 { // whom their package makes
			continue
		}
		p.lack(&problem.Error{
			Code: "user-missing", What: "cannot install on " + w.Host, Why: "the machine has no user " + u + ", whose the server is to be",
			Do: "create it there: `useradd --system --home-dir " + State + " " + u + "`",
		})
	}
	for _, major := range majors {
		p.version(w, f, major)
	}
}

// version brings one.
func (p *Plan) version(w Want, f Facts, major int) {
	name, of := "postgresql", "PostgreSQL"
	if major != 0 {
		name, of = fmt.Sprintf("postgresql-%d", major), fmt.Sprintf("PostgreSQL %d", major)
	}
	if !f.Apt {
		p.lack(&problem.Error{
			Code: "postgres-missing", What: of + " is not installed on " + w.Host, Why: f.System + " has no apt, and this version installs with no other",
			Do: "install it there: for example `dnf install postgresql" + strings.TrimPrefix(name, "postgresql-") + "-server` from the PGDG repository",
		})
		return
	}
	p.Steps = append(p.Steps, Step{
		What: "install " + of + " (package " + name + ") from the repositories of the machine",
		Why:  why(f.Postgres),
		Script: `set -e
c=/etc/postgresql-common/createcluster.d/howdah.conf
(umask 022; mkdir -p "${c%/*}"; [ -e "$c" ] || echo 'create_main_cluster = false' >"$c")
export DEBIAN_FRONTEND=noninteractive
apt-get -qq -o DPkg::Lock::Timeout=120 update >&2 || true
apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends ` + name + ` >&2
`,
	})
}

func why(have []int) string {
	if len(have) == 0 {
		return "the machine has no PostgreSQL"
	}
	var words []string
	for _, major := range have {
		words = append(words, strconv.Itoa(major))
	}
	return "the machine has " + strings.Join(words, ", ")
}

// files puts what is not there, or is another; it says what is written.
func (p *Plan) files(w Want, f Facts, unit bool) (written map[string]bool) {
	written = map[string]bool{}
	for _, file := range w.Files {
		if file.Path == UnitFile && !unit {
			continue
		}
		has, there := f.Files[file.Path]
		step := Step{What: "copy " + file.What + " to " + file.Path, Put: file.Path}
		switch {
		case !there:
			step.Why = "it is not there"
		case has.Sum != file.Sum && file.Keep && !slices.Contains(file.Former, has.Sum):
			p.lack(&problem.Error{
				Code: "keys-other", What: "cannot install on " + w.Host,
				Why: file.What + " there, " + file.Path + ", is not the one of this machine: the others would not know it, nor it them",
				Do:  "install from where that one was made, or give its directory with --dir; if that machine was to be set up anew, remove " + State + " there",
			})
			continue
		case has.Sum != file.Sum:
			step.Why = "another one is there"
		case has.Mode != file.Mode:
			step.Why = fmt.Sprintf("its permissions are %04o, and should be %04o", has.Mode, file.Mode)
			step.What = fmt.Sprintf("set the permissions of %s to %04o", file.Path, file.Mode)
			step.Put, step.Script = "", fmt.Sprintf("chmod %04o '%s'", file.Mode, file.Path)
		default:
			continue
		}
		written[file.Path] = step.Put != ""
		p.Steps = append(p.Steps, step)
	}
	return written
}

// start has the supervisor run. One that runs is left alone: to start it again would
// move a leader, which nobody asked for.
func (p *Plan) start(w Want, f Facts, init string, written map[string]bool) {
	command := strings.Join(w.Command(), " ")
	add := func(what, why, script string, start bool) {
		p.Steps = append(p.Steps, Step{What: what, Why: why, Script: script, Start: start})
	}
	switch {
	case init == None && !f.Active:
		add("start the supervisor, this once", "none runs", `umask 022
mkdir -p `+State+` `+Run+`
cd /
setsid `+command+` </dev/null >>`+Log+` 2>&1 &
`, true)
		p.Notes = append(p.Notes, "nobody starts it when the machine starts: have that done by whatever starts things there: "+command)
	case init == None:
	case !f.Systemd && f.Active: // somebody starts it in another way
	case !f.Systemd:
		p.lack(&problem.Error{
			Code: "init-missing", What: "cannot install on " + w.Host, Why: "no systemd runs there that could start the supervisor",
			Do: "give --init none, which starts it this once, and have whatever starts things there run: " + command,
		})
	default:
		if written[UnitFile] {
			add("have systemd read its units again", "the unit is another", Reread, false)
		}
		if !f.Enabled {
			add("have "+Unit+" started with the machine", "it is not", "systemctl enable --quiet "+Unit, true)
		}
		if !f.Active {
			add("start "+Unit, "it does not run", "systemctl start --no-block "+Unit, true)
		}
	}
	if !f.Active {
		return
	}
	if i := slices.IndexFunc(w.Files, func(file File) bool { return file.Path == Program }); i >= 0 && f.Running != "" && f.Running != w.Files[i].Sum {
		again := "`systemctl restart " + Unit + "`"
		if init == None {
			again = "send it SIGUSR2 and start it again"
		}
		p.Notes = append(p.Notes, "the supervisor there still is the program of before: "+again+" when it suits; PostgreSQL runs on and keeps its leader")
	}
	if slices.ContainsFunc(w.Files, func(f File) bool { return f.Keep && written[f.Path] }) {
		p.Notes = append(p.Notes, "it knows the others by an earlier authority: `howdah certs renew --due` there")
	}
	if written[w.Inventory()] {
		p.Notes = append(p.Notes, "it runs what the inventory said before: `howdah plan "+w.Inventory()+"` there shows the difference, `howdah apply` removes it, on the leader's machine last")
	}
}
