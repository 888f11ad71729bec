package postgres

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"howdah/node/process"
	"howdah/pg"
	"howdah/problem"
)

// Programs is an installation of PostgreSQL.
type Programs struct {
	Major   int
	Version string // "15.13"
	Bin     string // directory of postgres, initdb …
}

// Has says whether the installation has a program; some distributions leave
// out the clients or pg_rewind.
func (p Programs) Has(name string) bool {
	st, err := os.Stat(p.Path(name))
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

// Path is where the program is, if the installation has it.
func (p Programs) Path(name string) string { return filepath.Join(p.Bin, name) }

// FindAll returns every supported installation on this machine, one for each
// major, oldest first. $HOWDAH_PG names a directory of <major>/bin trees that
// come before the system's.
func FindAll() []Programs {
	return slices.DeleteFunc(scan(), func(p Programs) bool { return p.Major < pg.OldestMajor || p.Major > pg.NewestMajor })
}

// scan returns every installation, supported or not.
func scan() []Programs {
	var bins []string
	if dir := os.Getenv("HOWDAH_PG"); dir != "" {
		found, _ := filepath.Glob(filepath.Join(dir, "*", "bin"))
		bins = append(bins, found...)
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin"} {
		found, _ := filepath.Glob(pattern)
		bins = append(bins, found...)
	}
	bins = append(bins, filepath.SplitList(os.Getenv("PATH"))...)
	if file, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(file); err == nil {
			bins = append(bins, filepath.Dir(real))
		}
	}
	var all []Programs
	for _, bin := range bins {
		p, err := at(bin)
		known := slices.ContainsFunc(all, func(q Programs) bool { return q.Major == p.Major })
		if err == nil && !known {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b Programs) int { return cmp.Compare(a.Major, b.Major) })
	return all
}

// Find returns the installation of one major; 0 takes the newest there is.
func Find(major int) (Programs, error) {
	if major != 0 && (major < pg.OldestMajor || major > pg.NewestMajor) {
		return Programs{}, unsupported(major)
	}
	all := FindAll()
	for _, p := range slices.Backward(all) {
		if major == 0 || p.Major == major {
			return p, nil
		}
	}
	what, why := fmt.Sprintf("PostgreSQL %d is not installed", major), "none was found in $HOWDAH_PG, /usr/lib/postgresql, /usr/pgsql-*, /usr/local/pgsql or $PATH"
	if other := scan(); major == 0 && len(other) > 0 {
		return Programs{}, unsupported(other[len(other)-1].Major)
	}
	if major == 0 {
		what, major = "PostgreSQL is not installed", 17
	} else if len(all) > 0 {
		var have []string
		for _, p := range all {
			have = append(have, strconv.Itoa(p.Major))
		}
		why = "this machine has " + strings.Join(have, ", ")
	}
	return Programs{}, &problem.Error{
		Code: "postgres-missing", What: what, Why: why,
		Do: fmt.Sprintf("install it: `apt-get install postgresql-%d` on Debian and Ubuntu (from apt.postgresql.org where the distribution lacks it), `dnf install postgresql%d-server` from the PGDG repository on RHEL", major, major),
	}
}

// At returns the installation in one directory of programs.
func At(bin string) (Programs, error) {
	p, err := at(bin)
	if err != nil {
		return p, &problem.Error{
			Code: "postgres-missing", What: "cannot use the PostgreSQL programs in " + bin, Err: err,
			Do: "set the directory that holds `postgres` and `initdb`, or leave it out to have it found",
		}
	}
	if p.Major < pg.OldestMajor || p.Major > pg.NewestMajor {
		return p, unsupported(p.Major)
	}
	return p, nil
}

func unsupported(major int) error {
	return &problem.Error{
		Code: "postgres-unsupported",
		What: fmt.Sprintf("PostgreSQL %d is not supported", major),
		Why:  fmt.Sprintf("this version of howdah runs %d to %d", pg.OldestMajor, pg.NewestMajor),
		Do:   "install one of these (`apt-get install postgresql-17`) and set it in the inventory (pg_version)",
	}
}

func at(bin string) (Programs, error) {
	if bin == "" {
		return Programs{}, os.ErrNotExist
	}
	p := Programs{Bin: bin}
	if !p.Has("postgres") || !p.Has("initdb") {
		return p, fmt.Errorf("%s has no postgres and initdb that can be executed", bin)
	}
	out, err := exec.Command(p.Path("postgres"), "--version").Output()
	if err != nil {
		return p, fmt.Errorf("%s --version: %w", p.Path("postgres"), err)
	}
	// "postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)", "… 18beta1"
	f := strings.Fields(string(out))
	if len(f) < 3 {
		return p, fmt.Errorf("%s says it is %q", p.Path("postgres"), strings.TrimSpace(string(out)))
	}
	p.Version = f[2]
	digits := strings.IndexFunc(f[2]+".", func(r rune) bool { return r < '0' || r > '9' })
	if p.Major, err = strconv.Atoi(f[2][:digits]); err != nil {
		return p, fmt.Errorf("%s says it is version %q", p.Path("postgres"), f[2])
	}
	return p, nil
}

// with returns the path of a program of this installation or, for one that may
// be newer than its server, of the nearest newer one that has it.
func (p Programs) with(name string, newer bool) (string, error) {
	if p.Has(name) {
		return p.Path(name), nil
	}
	if newer {
		for _, q := range FindAll() {
			if q.Major > p.Major && q.Has(name) {
				return q.Path(name), nil
			}
		}
	}
	return "", &problem.Error{
		Code: "postgres-program", What: "cannot run " + name, Why: p.Bin + " does not have it",
		Do: fmt.Sprintf("install the complete server and client packages of PostgreSQL %d", p.Major),
	}
}

// An account is the OS user that PostgreSQL's files and processes belong to.
type account struct {
	name     string
	uid, gid int
	groups   []uint32
	home     string
	other    bool // not the user we run as: processes must change to it, files be given to it
}

// accountOf looks the user up; "" is the one that runs.
func accountOf(name string) (account, error) {
	self := account{uid: os.Geteuid(), gid: os.Getegid(), home: "/", name: strconv.Itoa(os.Geteuid())}
	var u *user.User
	var err error
	if name == "" {
		if u, err = user.Current(); err != nil {
			return self, nil // a container's arbitrary uid has no name
		}
	} else if u, err = user.Lookup(name); err != nil {
		return account{}, &problem.Error{
			Code: "user-missing", What: "cannot run PostgreSQL as user " + name, Err: err,
			Do: "create it (`useradd --system " + name + "`) or name another user in the inventory",
		}
	}
	a := account{name: u.Username, home: u.HomeDir}
	a.uid, _ = strconv.Atoi(u.Uid)
	a.gid, _ = strconv.Atoi(u.Gid)
	ids, _ := u.GroupIds()
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			a.groups = append(a.groups, uint32(n))
		}
	}
	a.other = a.uid != self.uid
	if a.other && self.uid != 0 {
		return account{}, &problem.Error{
			Code: "user-other", What: "cannot run PostgreSQL as user " + name, Why: "this process runs as " + self.name + ", which may not become it",
			Do: "run it as " + name + " or as root",
		}
	}
	if a.uid == 0 {
		return account{}, &problem.Error{
			Code: "user-root", What: "cannot run PostgreSQL as root", Why: "its server refuses to",
			Do: "name the user who shall run it in the inventory, usually postgres",
		}
	}
	return a, nil
}

func (a account) attr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if a.other {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), Groups: a.groups}
	}
	return attr
}

// environ is all that PostgreSQL's programs see: nothing of ours, such as
// systemd's sockets, may reach a server that outlives us.
func (a account) environ(extra ...string) []string {
	return append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + a.home, "USER=" + a.name, "LANG=C.UTF-8", "TZ=UTC",
	}, extra...)
}

// tool is one run of a program that ends by itself.
type tool struct {
	path  string
	args  []string
	env   []string
	stdin string
	line  func(string) // sees each line of standard error while it runs
}

// run runs a tool as PostgreSQL's user and returns its standard error. It ends with ctx, and
// with us: a base backup without its agent would write into a directory that the
// next agent takes for its own.
func (a account) run(ctx context.Context, t tool) (string, error) {
	runtime.LockOSThread() // Pdeathsig fires at the end of the thread that forked
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, t.path, t.args...)
	cmd.Env = a.environ(t.env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = a.attr()
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if t.stdin != "" {
		cmd.Stdin = strings.NewReader(t.stdin)
	}
	pipe, err := cmd.StderrPipe()
	if err != nil {
		return "", err
	}
	if err := process.Punctual(cmd.Start); err != nil {
		return "", fmt.Errorf("run %s: %w", t.path, err)
	}
	var kept []string
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		if t.line != nil {
			t.line(lines.Text())
		}
		if kept = append(kept, lines.Text()); len(kept) > 200 {
			kept = kept[1:]
		}
	}
	_, _ = io.Copy(io.Discard, pipe)
	err = cmd.Wait()
	text := strings.Join(kept, "\n")
	if ctx.Err() != nil {
		return text, ctx.Err()
	}
	if err != nil {
		return text, fmt.Errorf("%s: %w: %s", filepath.Base(t.path), err, lastLines(text, 3))
	}
	return text, nil
}

// lastLines returns the last n lines that are not blank, on one.
func lastLines(text string, n int) string {
	var kept []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept[max(0, len(kept)-n):], "; ")
}
