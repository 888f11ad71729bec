// Package doctor says from the facts of a machine what is wrong with it for
// PostgreSQL, how that is seen, and how to mend it.
//
// It is a pure function: whoever looks gathers Facts, and what can not be seen is
// said to be unknown, never to be well. Bounds stand beside the check that they are
// of, with where they come from; "the manual" is PostgreSQL's, chapter "Managing
// Kernel Resources".
package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Grade is how well something is.
type Grade string

// Grades, from well to ill.
const (
	OK      Grade = "ok"
	Unknown Grade = "unknown" // it could not be seen
	Warn    Grade = "warn"
	Fail    Grade = "fail" // PostgreSQL or the cluster does not run with it, or not for long
)

var order = []Grade{OK, Unknown, Warn, Fail}

// Worse says whether g is worse than o.
func (g Grade) Worse(o Grade) bool { return slices.Index(order, g) > slices.Index(order, o) }

// A Finding is one thing that was looked at.
type Finding struct {
	Host     string `json:"host,omitempty"` // "": all of them together, or the only one
	Check    string `json:"check"`
	Grade    Grade  `json:"grade"`
	Evidence string `json:"evidence"`
	Do       string `json:"do,omitempty"`
}

// A Subject is what a machine is to run; the zero Subject is a machine of which
// nothing is known.
type Subject struct {
	Host      string   `json:"host"`
	Member    string   `json:"member"`
	User      string   `json:"user"` // of the server
	Server    bool     `json:"server"`
	Major     int      `json:"major"` // 0: any
	Bin       string   `json:"bin"`   // its programs, where they were chosen
	Libraries []string `json:"libraries"`
	Dir       string   `json:"dir"` // of the node
	Data      string   `json:"data"`
	Run       string   `json:"run"` // with the supervisor's pid file
	Secrets   string   `json:"secrets"`
	Ports     []Port   `json:"ports"`
	TLS       []string `json:"tls"`        // files of certificates
	Shared    int64    `json:"shared"`     // bytes of shared_buffers; 0: not known
	HugePages string   `json:"huge_pages"` // the parameter
}

// A Port is one that something of the machine is to listen on.
type Port struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Port    int    `json:"port"`
}

// Facts are what was seen of one machine. A pointer that is nil was not to be seen.
type Facts struct {
	Subject     Subject           `json:"subject"`
	Root        bool              `json:"root"` // who looks is
	Host        string            `json:"hostname"`
	Addresses   []string          `json:"addresses"`
	Synced      *bool             `json:"synced"`    // the kernel's clock is steered by somebody
	MaxError    time.Duration     `json:"max_error"` // of the clock, as the kernel has it
	Supervisor  int               `json:"supervisor"`
	Held        []Held            `json:"held"`
	OpenFiles   uint64            `json:"open_files"` // hard limit, of the supervisor if it runs
	MemoryKB    int64             `json:"memory_kb"`
	SwapKB      int64             `json:"swap_kb"`
	HugeTotal   int64             `json:"huge_total"` // pages
	HugeFree    int64             `json:"huge_free"`
	HugeKB      int64             `json:"huge_kb"` // of one
	Kernel      map[string]string `json:"kernel"`  // settings by name: vm.swappiness
	Flushes     []time.Duration   `json:"flushes"` // each of 8 kB, in the order they were made
	FlushDir    string            `json:"flush_dir"`
	FlushError  string            `json:"flush_error"`
	Localhost   []string          `json:"localhost"`
	OwnName     []string          `json:"own_name"` // addresses of Host
	Resolving   time.Duration     `json:"resolving"`
	Postgres    []Installed       `json:"postgres"`
	User        *bool             `json:"user"`    // the server's is there
	Missing     []string          `json:"missing"` // libraries that the server needs
	Disks       []Disk            `json:"disks"`
	Places      []Place           `json:"places"`
	Certs       []Cert            `json:"certificates"`
	At          time.Time         `json:"at"`
	Uncertainty time.Duration     `json:"uncertainty"` // of Offset
	Offset      *time.Duration    `json:"offset"`      // of the clock, from that of whoever asks
	Login       string            `json:"login"`       // how who asks became root; "": nobody had to
}

// A Held is a port that somebody listens on.
type Held struct {
	Port
	By string `json:"by"`
}

// An Installed is a PostgreSQL that is there.
type Installed struct {
	Major   int    `json:"major"`
	Version string `json:"version"`
	Bin     string `json:"bin"`
}

// A Disk is a file system.
type Disk struct {
	What   string `json:"what"`
	Path   string `json:"path"`
	Size   int64  `json:"size"` // bytes
	Free   int64  `json:"free"` // for others than root
	Inodes int64  `json:"inodes"`
	Left   int64  `json:"inodes_free"`
}

// A Place is a file or directory with the rights on it.
type Place struct {
	What  string `json:"what"`
	Path  string `json:"path"`
	Mode  uint32 `json:"mode"`
	Owner string `json:"owner"`
	Enter bool   `json:"enter"` // the server's user can come to it
}

// A Cert is a certificate.
type Cert struct {
	Path  string    `json:"path"`
	Until time.Time `json:"until"`
	Error string    `json:"error,omitempty"`
}

// Checks are what is looked at, in the order it is told.
var checks = []struct {
	name string
	of   func(*judge)
}{
	{"login", (*judge).login},
	{"address", (*judge).address},
	{"clock", (*judge).clock},
	{"names", (*judge).names},
	{"ports", (*judge).ports},
	{"limits", (*judge).limits},
	{"huge pages", (*judge).hugePages},
	{"kernel", (*judge).kernel},
	{"flush", (*judge).flush},
	{"disk", (*judge).disk},
	{"postgres", (*judge).postgres},
	{"permissions", (*judge).permissions},
	{"certificates", (*judge).certificates},
}

// A judge looks at one machine.
type judge struct {
	Facts
	check string
	all   []Finding
}

func (j *judge) say(g Grade, do, format string, args ...any) {
	if g == OK {
		do = ""
	}
	j.all = append(j.all, Finding{Host: j.Subject.Host, Check: j.check, Grade: g, Evidence: fmt.Sprintf(format, args...), Do: do})
}

// Judge says how one machine is: something of every check.
func Judge(f Facts) []Finding {
	j := &judge{Facts: f}
	for _, c := range checks {
		j.check = c.name
		c.of(j)
	}
	return j.all
}

func (j *judge) login() {
	if j.Login != "" {
		j.say(OK, "", "%s", j.Login)
	}
}

func (j *judge) address() {
	host := j.Subject.Host
	switch {
	case host == "" || len(j.Addresses) == 0:
	case slices.Contains(j.Addresses, host):
		j.say(OK, "", "the machine has %s", host)
	default:
		j.say(Fail, "give it that address, or correct the inventory: its servers listen there and nowhere else", "the machine has no %s, but %s", host, strings.Join(j.Addresses, ", "))
	}
}

// A clock that nobody steers goes wrong by seconds a day; one that is steered has an
// error of some milliseconds, over the internet up to a hundred.
func (j *judge) clock() {
	const do = "run a time service: `apt-get install chrony`, or `timedatectl set-ntp true`"
	switch {
	case j.Synced == nil:
		j.say(Unknown, "", "the kernel does not say whether its clock is steered")
	case !*j.Synced:
		j.say(Warn, do, "nobody steers the clock: the kernel calls it not synchronised")
	case j.MaxError > time.Second:
		j.say(Warn, do, "the clock is steered, but may be wrong by %s", j.MaxError.Round(time.Millisecond))
	default:
		j.say(OK, "", "the clock is steered; it is wrong by %s at most", j.MaxError.Round(time.Millisecond))
	}
}

// Names are looked up by every connection that logs its client, and by PostgreSQL
// for its own loopback.
func (j *judge) names() {
	slow := j.Resolving > time.Second
	switch {
	case !slices.Contains(j.Localhost, "127.0.0.1"):
		j.say(Fail, "put `127.0.0.1 localhost` into /etc/hosts", "localhost is %s", none(j.Localhost))
	case slow:
		j.say(Warn, "see /etc/resolv.conf: its first server does not answer; put the machine's own name into /etc/hosts", "to look up %s took %s", j.Host, j.Resolving.Round(time.Millisecond))
	case len(j.OwnName) == 0:
		j.say(Warn, "put the machine's address and its name "+j.Host+" into /etc/hosts: sudo and others look it up", "the machine's own name %s is not known to it", j.Host)
	default:
		j.say(OK, "", "localhost is 127.0.0.1, %s is %s", j.Host, strings.Join(j.OwnName, ", "))
	}
}

func none(list []string) string {
	if len(list) == 0 {
		return "not known"
	}
	return strings.Join(list, ", ")
}

// A port that somebody else holds keeps a role from starting. What our own processes
// hold is as it should be, if the supervisor runs.
func (j *judge) ports() {
	if len(j.Subject.Ports) == 0 {
		return
	}
	ours := 0
	for _, h := range j.Held {
		program, _, _ := strings.Cut(h.By, " ")
		if j.Supervisor != 0 && (program == "howdah" || program == "postgres") {
			ours++
			continue
		}
		j.say(Fail, "stop that program and keep it from starting again (`systemctl disable --now …`), or give "+h.Name+" another port in the inventory",
			"port %d of %s is held by %s", h.Port.Port, h.Name, h.By)
	}
	switch free := len(j.Subject.Ports) - len(j.Held); {
	case ours > 0:
		j.say(OK, "", "%d of %d ports are held by this node's own processes", ours, len(j.Subject.Ports))
	case len(j.Held) == 0:
		j.say(OK, "", "all %d ports are free", free)
	}
}

// A gateway has two files open for every client, a server up to a thousand for every
// connection (max_files_per_process).
func (j *judge) limits() {
	const few, enough = 4096, 65536
	do := "the unit that `howdah install` writes has LimitNOFILE=1048576; elsewhere set it where the supervisor is started (limits.conf(5) is for logins only)"
	whose := "this process"
	if j.Supervisor != 0 {
		whose = "the supervisor"
	}
	switch {
	case j.OpenFiles == 0:
		j.say(Unknown, "", "the limit of open files is not to be seen")
	case j.OpenFiles < few:
		j.say(Fail, do, "%s may have %d files open", whose, j.OpenFiles)
	case j.OpenFiles < enough:
		j.say(Warn, do, "%s may have %d files open", whose, j.OpenFiles)
	default:
		j.say(OK, "", "%s may have %d files open", whose, j.OpenFiles)
	}
}

// hugePages: the manual recommends them for large shared memory, where page tables of
// small pages cost each connection up to 1/512 of it.
func (j *judge) hugePages() {
	const large = 8 << 30 // bytes of shared_buffers from which they matter
	if !j.Subject.Server || j.HugeKB == 0 {
		return
	}
	has := j.HugeTotal * j.HugeKB << 10
	// The rest of shared memory is some percent of the buffers.
	need := (j.Subject.Shared + j.Subject.Shared/10 + 128<<20) / (j.HugeKB << 10)
	set := fmt.Sprintf("set vm.nr_hugepages=%d in /etc/sysctl.d/60-postgresql.conf, `sysctl --system`, and restart the server", need)
	switch {
	case j.Subject.HugePages == "on" && has < j.Subject.Shared:
		j.say(Fail, set+"; or huge_pages: try", "huge_pages is on, and there are %s of huge pages for %s of shared_buffers", size(has), size(j.Subject.Shared))
	case j.Subject.HugePages == "off" || j.Subject.Shared == 0:
		j.say(OK, "", "%s of huge pages are set aside", size(has))
	case j.Subject.Shared >= large && has < j.Subject.Shared:
		j.say(Warn, set, "shared_buffers is %s, and %s of huge pages are set aside", size(j.Subject.Shared), size(has))
	case has > 2*j.Subject.Shared && has > j.MemoryKB<<10/4:
		j.say(Warn, fmt.Sprintf("set vm.nr_hugepages=%d: nothing else can use that memory", need), "%s of huge pages are set aside, for %s of shared_buffers", size(has), size(j.Subject.Shared))
	default:
		j.say(OK, "", "%s of huge pages are set aside, for %s of shared_buffers", size(has), size(j.Subject.Shared))
	}
}

// kernel settings, as the manual has them.
func (j *judge) kernel() {
	began := len(j.all)
	sysctl := func(name, value string) string {
		return "set " + name + "=" + value + " in /etc/sysctl.d/60-postgresql.conf, then `sysctl --system`"
	}
	get := func(name string) (int, bool) {
		n, err := strconv.Atoi(strings.TrimSpace(j.Kernel[name]))
		return n, err == nil
	}
	if n, ok := get("vm.overcommit_memory"); ok && n == 1 {
		j.say(Warn, sysctl("vm.overcommit_memory", "2")+" (0 is the kernel's default)", "vm.overcommit_memory is 1: memory that is not there is promised to everybody, until the kernel kills somebody")
	}
	if n, ok := get("vm.swappiness"); ok && n > 30 && j.SwapKB > 0 {
		j.say(Warn, sysctl("vm.swappiness", "1"), "vm.swappiness is %d and there are %s of swap: the kernel writes out memory of the server for the sake of its file cache", n, size(j.SwapKB<<10))
	}
	if thp := j.Kernel["transparent_hugepage"]; strings.Contains(thp, "[always]") {
		j.say(Warn, "boot with transparent_hugepage=madvise, or `echo madvise > /sys/kernel/mm/transparent_hugepage/enabled` at every start", "transparent huge pages are always made: the server waits while the kernel puts them together")
	}
	if n, ok := get("net.core.somaxconn"); ok && n < 1024 {
		j.say(Warn, sysctl("net.core.somaxconn", "4096"), "net.core.somaxconn is %d: of clients that connect at once more are turned away", n)
	}
	if n, ok := get("vm.panic_on_oom"); ok && n != 0 {
		j.say(Warn, sysctl("vm.panic_on_oom", "0"), "vm.panic_on_oom is %d: the machine ends where one process would", n)
	}
	var seen []string
	for _, name := range []string{"vm.overcommit_memory", "vm.swappiness", "transparent_hugepage", "net.core.somaxconn"} {
		if v := strings.TrimSpace(j.Kernel[name]); v != "" {
			seen = append(seen, name+" "+v)
		}
	}
	switch {
	case len(seen) == 0:
		j.say(Unknown, "", "no setting of the kernel is to be seen")
	case len(j.all) == began:
		j.say(OK, "", "%s", strings.Join(seen, ", "))
	}
}

// flush: every commit waits for one; etcd wants less than 10 ms of them, and calls its
// leader lost when they take longer than an election (etcd, "Hardware recommendations").
func (j *judge) flush() {
	if j.FlushDir == "" && j.FlushError == "" {
		return
	}
	if len(j.Flushes) == 0 {
		j.say(Unknown, "look as root", "nothing could be written and flushed: %s", j.FlushError)
		return
	}
	sorted := slices.Sorted(slices.Values(j.Flushes))
	at := func(percent int) time.Duration { return sorted[min(len(sorted)*percent/100, len(sorted)-1)] }
	median, most := at(50), sorted[len(sorted)-1]
	round := func(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
	text := fmt.Sprintf("to flush 8 kB in %s takes %s, %s at worst of %d", j.FlushDir, round(median), round(most), len(sorted))
	do := "put the state directory on a faster or less busy disk; every commit waits so long, and etcd's leader is called lost when it takes longer than an election"
	switch {
	case median > 100*time.Millisecond:
		j.say(Fail, do, "%s", text)
	case median > 10*time.Millisecond || most > 200*time.Millisecond:
		j.say(Warn, do, "%s", text)
	default:
		j.say(OK, "", "%s", text)
	}
}

func (j *judge) disk() {
	for _, d := range j.Disks {
		if d.Size == 0 {
			continue
		}
		free := float64(d.Free) / float64(d.Size)
		text := fmt.Sprintf("%s (%s) has %s free of %s", d.Path, d.What, size(d.Free), size(d.Size))
		const do = "make room, or the file system larger: a server whose disk is full stops"
		switch {
		case d.Free < 1<<30 || free < 0.03:
			j.say(Fail, do, "%s", text)
		case free < 0.15:
			j.say(Warn, do, "%s", text)
		case d.Inodes > 0 && float64(d.Left) < 0.05*float64(d.Inodes):
			j.say(Warn, "remove small files, or make the file system anew with more inodes", "%s (%s) has %d inodes left of %d", d.Path, d.What, d.Left, d.Inodes)
		default:
			j.say(OK, "", "%s", text)
		}
	}
}

func (j *judge) postgres() {
	s := j.Subject
	if !s.Server {
		return
	}
	var have []string
	found := false
	for _, p := range j.Postgres {
		have = append(have, p.Version)
		found = found || p.Major == s.Major || s.Major == 0
	}
	want := "PostgreSQL"
	if s.Major != 0 {
		want += " " + strconv.Itoa(s.Major)
	}
	switch {
	case !found:
		j.say(Fail, "`howdah install` brings it from the repositories of the machine", "%s is wanted, and there is %s", want, cmp.Or(strings.Join(have, ", "), "none"))
	case len(j.Missing) > 0:
		j.say(Fail, "install the packages that have them, or take them out of pg_libs in the inventory", "PostgreSQL has not %s, which shared_preload_libraries names", strings.Join(j.Missing, ", "))
	default:
		j.say(OK, "", "there is PostgreSQL %s", strings.Join(have, ", "))
	}
	if j.User != nil && !*j.User {
		j.say(Fail, "the distribution's PostgreSQL makes it; or `useradd --system "+s.User+"`", "there is no user %s, whose the server is to be", s.User)
	}
}

// permissions: the server refuses data that others may read, and its roles have to
// come to their files.
func (j *judge) permissions() {
	began := len(j.all)
	for _, p := range j.Places {
		text := fmt.Sprintf("%s %s is %s's with %04o", p.What, p.Path, p.Owner, p.Mode)
		switch {
		case !p.Enter && p.What != "the keys":
			j.say(Fail, "give every directory above it the right to be entered (chmod a+x)", "%s: %s can not come there", text, j.Subject.User)
		case p.What == "the data" && (p.Mode&0o027 != 0 || p.Owner != j.Subject.User):
			j.say(Fail, "chown -R "+j.Subject.User+" "+p.Path+" && chmod 700 "+p.Path, "%s: the server starts only with its own data, which no others may read", text)
		case p.What == "the passwords" && p.Mode&0o077 != 0, p.What == "the keys" && p.Mode&0o077 != 0:
			j.say(Fail, "chmod 600 "+p.Path+", and change what others may have read", "%s: others can read it", text)
		}
	}
	if len(j.Places) > 0 && len(j.all) == began {
		j.say(OK, "", "%d places belong to whom they should", len(j.Places))
	}
}

// certificates: an expired one keeps machines from knowing each other.
func (j *judge) certificates() {
	for _, c := range j.Certs {
		left := c.Until.Sub(j.At)
		do := "`howdah certs renew` on that machine makes another one; nothing is restarted for it"
		text := fmt.Sprintf("%s is good until %s", c.Path, c.Until.Format("2006-01-02"))
		switch {
		case c.Error != "":
			j.say(Fail, "restore it from a copy, or remove it and start the supervisor again, which makes a new one", "%s can not be used: %s", c.Path, c.Error)
		case left <= 0:
			j.say(Fail, do, "%s: it is over", text)
		case left < 7*24*time.Hour:
			j.say(Fail, do, "%s", text)
		case left < 30*24*time.Hour:
			j.say(Warn, do, "%s", text)
		default:
			j.say(OK, "", "%s", text)
		}
	}
}

// Compare says what the machines are together: how far their clocks are apart.
func Compare(all []Facts) []Finding {
	var early, late *Facts
	for i := range all {
		f := &all[i]
		if f.Offset == nil {
			continue
		}
		if early == nil || *f.Offset < *early.Offset {
			early = f
		}
		if late == nil || *f.Offset > *late.Offset {
			late = f
		}
	}
	if early == late {
		return nil
	}
	apart, unsure := *late.Offset-*early.Offset, early.Uncertainty+late.Uncertainty
	f := Finding{Check: "clocks", Grade: OK, Evidence: fmt.Sprintf("the clocks of %s and %s, the farthest, are %s apart (± %s)",
		early.Subject.Host, late.Subject.Host, apart.Round(time.Millisecond), unsure.Round(time.Millisecond))}
	// What is surely so: certificates are made an hour early, but who restores to an
	// instant, or reads logs of two machines, goes by the clock.
	switch sure := apart - unsure; {
	case sure > 5*time.Second:
		f.Grade = Fail
	case sure > 500*time.Millisecond:
		f.Grade = Warn
	}
	if f.Grade != OK {
		f.Do = "have every machine's clock steered by the same time service (chrony, `timedatectl set-ntp true`)"
	}
	return []Finding{f}
}

// Worst is the worst grade of all.
func Worst(all []Finding) Grade {
	worst := OK
	for _, f := range all {
		if f.Grade.Worse(worst) {
			worst = f.Grade
		}
	}
	return worst
}

// size is bytes as a person reads them.
func size(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if v >= 10 || i == 0 {
		return fmt.Sprintf("%.0f %s", v, units[i])
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
