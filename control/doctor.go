package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"howdah/machine"
	"howdah/machine/doctor"
	"howdah/machine/install"
	"howdah/machine/ssh"
	"howdah/nodefile"
	"howdah/playground"
	"howdah/problem"
	"howdah/spec"
)

// A Diagnosis is how machines are, and what can safely be mended of that.
type Diagnosis struct {
	Findings []doctor.Finding
	Mends    []doctor.Mend
}

// add keeps what is the machine's, of several nodes, once.
func (d *Diagnosis) add(f doctor.Facts) {
	for _, found := range doctor.Judge(f) {
		if !slices.Contains(d.Findings, found) {
			d.Findings = append(d.Findings, found)
		}
	}
	for _, m := range doctor.Mends(f) {
		if !slices.ContainsFunc(d.Mends, func(o doctor.Mend) bool { return o.Host == m.Host && o.Script == m.Script }) {
			d.Mends = append(d.Mends, m)
		}
	}
}

// Doctor says how this machine is, for the nodes that are set up on it, and how the
// clusters are that these belong to.
func (h House) Doctor(ctx context.Context) (d Diagnosis, err error) {
	d.Findings = []doctor.Finding{}
	files, _ := filepath.Glob(filepath.Join(h.Dir, "*", "*", nodefile.Name)) // only a malformed pattern is an error
	_, err = playground.Load(h.Dir)
	plays := err == nil
	subjects := []doctor.Subject{}
	for _, file := range files {
		n, err := nodefile.Load(filepath.Dir(file))
		if err != nil {
			return d, err
		}
		s := machine.Subject(h.Dir, n)
		if plays { // its nodes have networks of their own
			s.Host, s.Ports = "", nil
		}
		subjects = append(subjects, s)
	}
	if len(subjects) == 0 {
		subjects = append(subjects, doctor.Subject{Dir: h.Dir})
	}
	for _, s := range subjects {
		d.add(machine.Look(ctx, s))
	}
	for _, name := range h.Clusters() {
		c, err := h.Open(name)
		if err != nil {
			return d, err
		}
		d.Findings = append(d.Findings, c.Health(ctx)...)
		if err := c.Close(); err != nil {
			return d, err
		}
	}
	return d, nil
}

// Mend mends one thing of this machine.
func Mend(ctx context.Context, m doctor.Mend) error {
	return mended(m, func() error {
		out, err := exec.CommandContext(ctx, "sh", "-c", m.Script).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
		return err
	})
}

// MendThere mends one thing of a machine of the inventory.
func MendThere(ctx context.Context, inv Inventory, l Login, m doctor.Mend) error {
	hosts, err := inv.chosen([]string{m.Host})
	if err != nil {
		return err
	}
	there, err := l.dial(ctx, hosts[0])
	if err != nil {
		return err
	}
	defer there.Close()
	return mended(m, func() error {
		_, err := there.Run(ctx, m.Script, nil)
		return err
	})
}

func mended(m doctor.Mend, do func() error) error {
	err := do()
	if err == nil {
		return nil
	}
	return &problem.Error{
		Code: "mend-failed", What: "cannot " + m.What, Why: strings.Join(m.Lines, "; "),
		Do: "mend that by hand; `howdah doctor` says what is left", Err: err,
	}
}

// Look reads a subject and writes what is seen of it on this machine: it is what
// DoctorAll runs on each.
func Look(ctx context.Context, in io.Reader, out io.Writer) error {
	var s doctor.Subject
	if err := json.NewDecoder(in).Decode(&s); err != nil {
		return fmt.Errorf("what to look at: %w", err)
	}
	f := machine.Look(ctx, s)
	return json.NewEncoder(out).Encode(f)
}

// An Examination is what is asked for.
type Examination struct {
	Hosts    []string // none: all of the inventory
	Login    Login
	Progress func(Step) // one call at a time
}

// DoctorAll says how the machines of an inventory are, one by one and together. It
// looks with this very program: with the one that is installed there if it is the
// same, else with a copy that is removed again.
func (h House) DoctorAll(ctx context.Context, inv Inventory, o Examination) (d Diagnosis, err error) {
	hosts, err := inv.chosen(o.Hosts)
	if err != nil {
		return d, err
	}
	nodes := machine.Hosts(install.State, install.Run, inv.World)
	sum, err := sumOf(self)
	if err != nil {
		return d, fmt.Errorf("this program: %w", err)
	}
	facts, errs := make([][]doctor.Facts, len(hosts)), make([]error, len(hosts))
	declared := make([]Diagnosis, len(hosts))
	var told sync.Mutex
	say := func(host, what string, percent int) {
		told.Lock()
		defer told.Unlock()
		if o.Progress != nil {
			o.Progress(Step{Member: host, State: what, Copied: percent})
		}
	}
	together(len(hosts), func(i int) {
		var subjects []doctor.Subject
		for _, n := range nodes {
			if n.Host == hosts[i].Host {
				subjects = append(subjects, machine.Subject(install.State, n))
			}
		}
		say(hosts[i].Host, "looking", -1)
		facts[i], declared[i], errs[i] = examine(ctx, o.Login, hosts[i], subjects, sum, func(percent int) { say(hosts[i].Host, "looking, with a copy of this program", percent) })
		say(hosts[i].Host, "looked", -1)
	})
	if ctx.Err() != nil {
		return d, context.Cause(ctx)
	}
	d.Findings = []doctor.Finding{}
	var seen []doctor.Facts
	for i, host := range hosts {
		if errs[i] != nil {
			p := problem.Plain(errs[i])
			if p.Code == "" {
				p.What, p.Do = errs[i].Error(), "look at it on the machine itself: `howdah doctor`"
			} else if p.Why != "" {
				p.What += ": " + p.Why
			}
			d.Findings = append(d.Findings, doctor.Finding{Host: host.Host, Check: "login", Grade: doctor.Fail, Evidence: p.What, Do: p.Do})
			continue
		}
		for _, f := range facts[i] {
			d.add(f)
		}
		d.Findings, d.Mends = append(d.Findings, declared[i].Findings...), append(d.Mends, declared[i].Mends...)
		seen = append(seen, facts[i][0])
	}
	d.Findings = append(d.Findings, doctor.Compare(seen)...)
	return d, nil
}

// examine has this program look at one machine, for each node that it has.
func examine(ctx context.Context, l Login, host spec.Host, subjects []doctor.Subject, sum string, copied func(int)) (all []doctor.Facts, declared Diagnosis, err error) {
	m, err := l.dial(ctx, host)
	if err != nil {
		return nil, declared, err
	}
	defer m.Close()
	offset, unsure, err := clockOf(ctx, m)
	if err != nil {
		return nil, declared, err
	}
	for _, s := range subjects {
		f, err := look(ctx, m, s, sum, copied)
		if err != nil {
			return nil, declared, err
		}
		f.Offset, f.Uncertainty = &offset, unsure
		f.Login = "logged in as " + m.String() + ", who is root"
		if m.Sudo() {
			f.Login = "logged in as " + m.String() + ", who may use sudo"
		}
		all = append(all, f)
	}
	declared, err = declaredOf(ctx, m, host)
	return all, declared, err
}

// declaredOf says whether a machine is what the inventory says of it.
func declaredOf(ctx context.Context, m *ssh.Machine, host spec.Host) (d Diagnosis, err error) {
	all := install.Settings(host.Settings)
	if len(all) == 0 {
		return d, nil
	}
	out, err := m.Run(ctx, install.Tests(all), nil)
	if err != nil {
		return d, err
	}
	found, err := install.ReadTests(out)
	if err != nil {
		return d, err
	}
	for i, s := range all {
		f := doctor.Finding{Host: host.Host, Check: "settings", Grade: doctor.Warn, Evidence: "the inventory has it otherwise: " + found[i].Said, Do: s.What + ": `howdah install` or `howdah doctor --fix` with the inventory does"}
		switch {
		case found[i].Code == 0:
			continue
		case found[i].Cannot():
			f.Do = "see why, or take that out of the inventory: it can not " + s.What
		default:
			d.Mends = append(d.Mends, doctor.Mend{Host: host.Host, Check: "settings", What: s.What, Lines: []string{found[i].Said}, Script: s.Do})
		}
		d.Findings = append(d.Findings, f)
	}
	return d, nil
}

// look has this program look at what one node needs.
func look(ctx context.Context, m *ssh.Machine, s doctor.Subject, sum string, copied func(int)) (f doctor.Facts, err error) {
	subject, err := json.Marshal(s)
	if err != nil {
		return f, err
	}
	there, err := m.Run(ctx, "sha256sum "+install.Program+" 2>/dev/null | cut -c1-64", nil)
	if err != nil {
		return f, err
	}
	var out string
	if strings.TrimSpace(there) == sum {
		out, err = m.Run(ctx, install.Program+" doctor --look", bytes.NewReader(subject))
	} else {
		out, err = lent(ctx, m, subject, copied)
	}
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal([]byte(out), &f); err != nil {
		return f, fmt.Errorf("what %s says of itself: %w", m.Host, err)
	}
	return f, nil
}

// lent has a machine run a copy of this program that is not to stay there. The
// subject comes first, as a line.
func lent(ctx context.Context, m *ssh.Machine, subject []byte, copied func(int)) (string, error) {
	program, err := self()
	if err != nil {
		return "", err
	}
	defer program.Close()
	content := io.Reader(program)
	if size, err := sizeOf(program); err == nil && size > 0 {
		content = &counted{from: program, size: size, tell: copied}
	}
	const script = `set -e
umask 077
IFS= read -r subject
d=$(mktemp -d /var/tmp/howdah-doctor.XXXXXX)
trap 'rm -rf "$d"' EXIT
trap 'exit 1' HUP INT TERM
cat >"$d/howdah"
chmod 700 "$d/howdah"
printf '%s' "$subject" | "$d/howdah" doctor --look
`
	return m.Run(ctx, script, io.MultiReader(bytes.NewReader(subject), strings.NewReader("\n"), content))
}

// clockOf asks what time it is there, and says how far that is from here. The answer
// was given at some moment of the question's way: what is unsure is half of it.
func clockOf(ctx context.Context, m *ssh.Machine) (offset, unsure time.Duration, err error) {
	const times = 3
	for i := range times {
		began := time.Now()
		out, err := m.Run(ctx, "date +%s%N", nil)
		took := time.Since(began)
		if err != nil {
			return 0, 0, err
		}
		ns, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("the time of %s: %w", m.Host, err)
		}
		if i == 0 || took/2 < unsure {
			offset, unsure = time.Unix(0, ns).Sub(began.Add(took/2)), took/2
		}
	}
	return offset, unsure, nil
}
