package control

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"howdah/machine"
	"howdah/machine/install"
	"howdah/machine/ssh"
	"howdah/nodefile"
	"howdah/pki"
	"howdah/problem"
	"howdah/secret"
	"howdah/spec"
)

// An Installation is what is asked for.
type Installation struct {
	Hosts    []string // none: all of the inventory
	Init     string   // install.Systemd, install.None; "": systemd
	Login    Login
	Wait     time.Duration // for the clusters to be healthy
	Progress func(Step)    // hears what happens on each host; one call at a time
}

// An Installer knows what the machines lack, and holds the connections to them.
type Installer struct {
	house   House
	inv     Inventory
	o       Installation
	hosts   []*site
	program string // SHA-256
	told    sync.Mutex
}

// A site is one machine that is being installed on.
type site struct {
	host    spec.Host
	nodes   []spec.Node
	want    install.Want
	facts   install.Facts
	content map[string]opener
	Theirs  map[string]map[string]secret.Text // by cluster: passwords that the machine has, if they are others than here

	plan install.Plan
	err  error
	m    *ssh.Machine
}

// clusters are those of which the machine has servers, once each.
func (s *site) clusters() (names []string) {
	for _, n := range s.nodes {
		if n.Postgres.Data != "" && !slices.Contains(names, n.Cluster) {
			names = append(names, n.Cluster)
		}
	}
	return names
}

// An opener gives what a file is to hold.
type opener func() (io.ReadCloser, error)

func text(b []byte) opener {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// self is the program that runs, also if its file was replaced since.
func self() (io.ReadCloser, error) { return os.Open("/proc/self/exe") }

// A HostPlan is what is to be done on one host.
type HostPlan struct {
	Host   string `json:"host"`
	Member string `json:"member"`                 // of several all, with commas
	Key    string `json:"accepted_key,omitempty"` // of the machine, if it was written down just now
	install.Plan
}

// Installer logs in to the machines of an inventory and looks at them. It changes
// nothing there. Close ends the connections.
func (h House) Installer(ctx context.Context, inv Inventory, o Installation) (*Installer, error) {
	if len(inv.Elsewhere) > 0 {
		slices.Sort(inv.Elsewhere)
		return nil, &problem.Error{
			Code: "install-reference", What: "cannot install " + inv.World.File,
			Why: "it names what other machines would not find: " + strings.Join(slices.Compact(inv.Elsewhere), ", "),
			Do:  "put these into files beside the inventory and name them by a path from there (file:secrets/app); they are copied along with it",
		}
	}
	if err := machine.Vacant(h.Dir, inv.World); err != nil {
		return nil, err
	}
	chosen, err := inv.chosen(o.Hosts)
	if err != nil {
		return nil, err
	}
	nodes := machine.Hosts(install.State, install.Run, inv.World)
	if o.Progress == nil {
		o.Progress = func(Step) {}
	}
	i := &Installer{house: h, inv: inv, o: o}
	if i.program, err = sumOf(self); err != nil {
		return nil, fmt.Errorf("this program: %w", err)
	}
	for _, host := range chosen {
		s := &site{host: host, Theirs: map[string]map[string]secret.Text{}}
		for _, n := range nodes {
			if n.Host == host.Host {
				s.nodes = append(s.nodes, n)
			}
		}
		i.hosts = append(i.hosts, s)
	}
	for _, s := range i.hosts {
		if err := i.describe(s); err != nil {
			return nil, err
		}
	}
	together(len(i.hosts), func(n int) {
		s := i.hosts[n]
		i.say(s.host.Host, "looking", -1)
		s.err = i.look(ctx, s)
	})
	if ctx.Err() != nil {
		i.Close()
		return nil, context.Cause(ctx)
	}
	for _, s := range i.hosts {
		i.decide(s)
	}
	return i, nil
}

// Close ends the connections.
func (i *Installer) Close() {
	for _, s := range i.hosts {
		if s.m != nil {
			s.m.Close()
		}
	}
}

// say tells how a host gets on.
func (i *Installer) say(host, what string, percent int) {
	i.told.Lock()
	defer i.told.Unlock()
	i.o.Progress(Step{Member: host, State: what, Copied: percent})
}

// archs are the machines for which Go's names are others than the kernel's.
var archs = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// describe says what a machine is to have, as far as it is known on this one.
func (i *Installer) describe(s *site) error {
	first := s.nodes[0]
	w := install.Want{
		Host: first.Host, Member: first.Member, Arch: cmp.Or(archs[runtime.GOARCH], runtime.GOARCH), Init: i.o.Init,
		Settings: install.Settings(s.host.Settings),
	}
	for _, n := range s.nodes {
		if n.Postgres.Data != "" && !slices.Contains(w.Majors, n.Postgres.Major) {
			w.Majors = append(w.Majors, n.Postgres.Major)
		}
		if !slices.Contains(w.Users, n.User) {
			w.Users = append(w.Users, n.User)
		}
	}
	former, err := pki.Former(machine.AuthorityDir(i.house.Dir))
	if err != nil {
		return err
	}
	s.content = map[string]opener{}
	add := func(path, what string, mode fs.FileMode, keep bool, from opener) error {
		f := install.File{Path: path, What: what, Mode: mode, Keep: keep}
		if keep {
			f.Former = former
		}
		s.content[path] = from
		if from != nil {
			var err error
			if f.Sum, err = sumOf(from); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
		}
		w.Files = append(w.Files, f)
		return nil
	}
	file := func(path string) opener {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil // it is made when the work begins
		}
		return func() (io.ReadCloser, error) { return os.Open(path) }
	}
	cert, key := machine.Authority(i.house.Dir)
	certThere, keyThere := machine.Authority(install.State)
	err = errors.Join(add(certThere, "the authority's certificate", 0o644, true, file(cert)), add(keyThere, "the authority's key", 0o600, true, file(key)))
	for _, name := range s.clusters() {
		c, ok := i.cluster(name)
		if !ok {
			continue
		}
		from, inner := i.passwords(c, s.Theirs[name])
		err = errors.Join(err, inner, add(machine.SecretsOf(install.State, c.Name), "the passwords of cluster "+c.Name, 0o600, false, from))
	}
	err = errors.Join(err, add(w.Inventory(), "the inventory", 0o600, false, text(i.inv.Text)))
	for _, path := range i.inv.Beside {
		err = errors.Join(err, add(install.Directory+"/"+path, "a file that the inventory names", 0o600, false, func() (io.ReadCloser, error) { return os.Open(filepath.Join(i.inv.Dir, path)) }))
	}
	unit := []byte(w.UnitText())
	w.Files = append(w.Files, install.File{Path: install.Program, What: "the program", Mode: 0o755, Sum: i.program})
	s.content[install.Program] = self
	err = errors.Join(err, add(install.UnitFile, "the unit", 0o644, false, text(unit)))
	s.want = w
	return err
}

func (i *Installer) cluster(name string) (spec.Cluster, bool) {
	n := slices.IndexFunc(i.inv.World.Clusters, func(c spec.Cluster) bool { return c.Name == name })
	if n < 0 {
		return spec.Cluster{}, false
	}
	return i.inv.World.Clusters[n], true
}

// passwords are what a machine's file of them is to hold; nil if some are only made
// when the work begins.
func (i *Installer) passwords(c spec.Cluster, theirs map[string]secret.Text) (opener, error) {
	path := machine.SecretsOf(i.house.Dir, c.Name)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ours, err := nodefile.DecodeSecrets(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for name, given := range c.Secrets {
		switch {
		case given != "":
			ours[name] = given // as Keys will have it
		case ours[name] == "":
			return nil, nil
		}
	}
	all, other := install.Passwords(c.Secrets, ours, theirs)
	if len(other) > 0 {
		return nil, &problem.Error{
			Code: "keys-other", What: "cannot install cluster " + c.Name, Why: "the machine has other passwords of " + strings.Join(other, ", ") + " than " + path,
			Do: "install from where the first ones were made, or give its directory with --dir",
		}
	}
	b, err = nodefile.EncodeSecrets(all)
	return text(b), err
}

// look logs in and finds out what is there.
func (i *Installer) look(ctx context.Context, s *site) error {
	if s.m == nil {
		m, err := i.o.Login.dial(ctx, s.host)
		if err != nil {
			return err
		}
		s.m = m
	}
	out, err := s.m.Run(ctx, install.Probe(s.want), nil)
	if err != nil {
		return i.strange(s, err)
	}
	if s.facts, err = install.Read(out); err != nil {
		return i.strange(s, err)
	}
	for _, name := range s.clusters() {
		path := machine.SecretsOf(install.State, name)
		has, there := s.facts.Files[path]
		if !there || has.Sum == s.sum(path) {
			continue
		}
		out, err := s.m.Run(ctx, "cat "+ssh.Quote(path), nil) // over the connection, and nowhere else
		if err != nil {
			return i.strange(s, err)
		}
		if s.Theirs[name], err = nodefile.DecodeSecrets([]byte(out)); err != nil {
			return i.strange(s, fmt.Errorf("%s of cluster %s: %w", path, name, err))
		}
	}
	if len(s.Theirs) == 0 {
		return nil
	}
	return i.describe(s)
}

func (s *site) sum(path string) string {
	n := slices.IndexFunc(s.want.Files, func(f install.File) bool { return f.Path == path })
	if n < 0 {
		return ""
	}
	return s.want.Files[n].Sum
}

// strange says that a machine did not do what every machine does.
func (i *Installer) strange(s *site, err error) error {
	if problem.Code(err) != "" || errors.Is(err, context.Canceled) {
		return err
	}
	return &problem.Error{
		Code: "install-failed", What: "cannot install on " + s.host.Host, Err: err,
		Do: "mend that there; given again, the same command does what is left",
	}
}

func (i *Installer) decide(s *site) {
	if s.err == nil {
		s.plan = install.Decide(s.want, s.facts)
		return
	}
	p, ok := errors.AsType[*problem.Error](i.strange(s, s.err))
	if !ok {
		p = &problem.Error{Code: "install-failed", What: "cannot install on " + s.host.Host, Err: s.err, Do: "mend that there"}
	}
	plain := problem.Plain(p)
	s.plan = install.Plan{Steps: []install.Step{}, Notes: []string{}, Lacks: []*problem.Error{&plain}}
}

// Plans say what is to be done on each host.
func (i *Installer) Plans() []HostPlan {
	var all []HostPlan
	for _, s := range i.hosts {
		p := HostPlan{Host: s.host.Host, Member: members(s.nodes), Plan: s.plan}
		if s.m != nil {
			p.Key = s.m.Accepted
		}
		all = append(all, p)
	}
	return all
}

func members(nodes []spec.Node) string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.Member)
	}
	return strings.Join(names, ", ")
}

// Count is how many steps there are.
func (i *Installer) Count() (n int) {
	for _, s := range i.hosts {
		n += len(s.plan.Steps)
	}
	return n
}

// Lacking is why nothing can be done, if there is something in the way on any host.
func (i *Installer) Lacking() error {
	var all []*problem.Error
	for _, s := range i.hosts {
		all = append(all, s.plan.Lacks...)
	}
	return gathered("nothing was changed", all)
}

// gathered makes one problem of those of several machines.
func gathered(what string, all []*problem.Error) error {
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	p := &problem.Error{Code: "install-failed", What: "cannot install: " + what, Do: "mend these; given again, the same command does what is left"}
	var lines []string
	for _, e := range all {
		plain := problem.Plain(e)
		lines = append(lines, fmt.Sprintf("%s: %s [%s]", plain.What, strings.ReplaceAll(plain.Why, "\n", "; "), plain.Code), "    do: "+plain.Do)
	}
	p.Why = strings.Join(lines, "\n")
	return p
}

// Installed is what was done.
type Installed struct {
	Hosts    []HostPlan    `json:"hosts"`
	Clusters []InstalledAs `json:"clusters"`
}

// InstalledAs is a cluster that is healthy.
type InstalledAs struct {
	Cluster string   `json:"cluster"`
	Leader  string   `json:"leader"`
	Host    string   `json:"host"` // of the leader
	Made    []string `json:"made"` // roles and databases
}

// Run does what is to be done, on all machines at once, and waits until the clusters
// are healthy. What is to be started is started when every machine has everything.
func (i *Installer) Run(ctx context.Context) (Installed, error) {
	done := Installed{Clusters: []InstalledAs{}}
	if err := i.Lacking(); err != nil {
		return done, err
	}
	if i.Count() > 0 {
		if _, err := i.house.Keys(i.inv); err != nil {
			return done, err
		}
		for _, s := range i.hosts { // now with what was made
			if err := i.describe(s); err != nil {
				return done, err
			}
			i.decide(s)
		}
		if err := i.Lacking(); err != nil {
			return done, err
		}
	}
	done.Hosts = i.Plans()
	for _, starts := range []bool{false, true} {
		together(len(i.hosts), func(n int) { i.hosts[n].err = i.steps(ctx, i.hosts[n], starts) })
		var wrong []*problem.Error
		for _, s := range i.hosts {
			if p, ok := errors.AsType[*problem.Error](s.err); ok {
				wrong = append(wrong, p)
			}
		}
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
		if err := gathered("not every step could be taken", wrong); err != nil {
			return done, err
		}
	}
	for _, c := range i.inv.World.Clusters {
		as, ok, err := i.rise(ctx, c)
		if err != nil {
			return done, err
		}
		if ok {
			done.Clusters = append(done.Clusters, as)
		}
	}
	return done, i.carriers(ctx)
}

// steps takes the steps on one machine.
func (i *Installer) steps(ctx context.Context, s *site, starts bool) error {
	for _, step := range s.plan.Steps {
		if step.Start != starts {
			continue
		}
		var err error
		if step.Put != "" {
			err = i.put(ctx, s, step)
		} else {
			i.say(s.host.Host, step.What, -1)
			_, err = s.m.Run(ctx, step.Script, nil)
		}
		if failed, ok := errors.AsType[*ssh.Failed](err); ok {
			return &problem.Error{
				Code: "install-failed", What: "cannot " + step.What + " on " + s.host.Host, Err: failed,
				Do: "mend that there; given again, the same command does what is left",
			}
		}
		if err != nil {
			return i.strange(s, err)
		}
	}
	return nil
}

// large is a file whose copy shows how far it is.
const large = 1 << 20

// sizeOf is that of an open file.
func sizeOf(r io.Reader) (int64, error) {
	file, ok := r.(*os.File)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	st, err := file.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (i *Installer) put(ctx context.Context, s *site, step install.Step) error {
	n := slices.IndexFunc(s.want.Files, func(f install.File) bool { return f.Path == step.Put })
	f := s.want.Files[n]
	from, err := s.content[f.Path]()
	if err != nil {
		return err
	}
	defer from.Close()
	var content io.Reader = from
	i.say(s.host.Host, step.What, -1)
	if size, err := sizeOf(from); err == nil && size >= large {
		content = &counted{from: from, size: size, tell: func(percent int) { i.say(s.host.Host, step.What, percent) }}
	}
	if err := s.m.Put(ctx, ssh.File{Path: f.Path, Mode: f.Mode, Sum: f.Sum}, content); err != nil {
		return err
	}
	i.say(s.host.Host, step.What, -1)
	return nil
}

// counted tells how much of it was read, by the percent.
type counted struct {
	from io.Reader
	size int64
	read int64
	tell func(percent int)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	before := c.read * 100 / c.size
	c.read += int64(n)
	if now := c.read * 100 / c.size; now != before {
		c.tell(int(now))
	}
	return n, err
}

// A seen is what `howdah status` says of a cluster, as far as it is asked for here.
type seen struct {
	Picture struct {
		Leader  string   `json:"leader"`
		Epoch   int64    `json:"epoch"`
		Away    []string `json:"away"`
		Members []struct {
			Name    string `json:"name"`
			State   string `json:"state"`
			Running bool   `json:"running"`
		} `json:"members"`
	} `json:"picture"`
	Etcd   []EtcdMember `json:"etcd"`
	Unwell []string     `json:"unwell"`
}

// on runs our program on a machine, for its clusters.
func (s *site) on(ctx context.Context, args ...string) (string, error) {
	words := []string{install.Program}
	for _, a := range append(args, "--dir", install.State) {
		words = append(words, ssh.Quote(a))
	}
	return s.m.Run(ctx, strings.Join(words, " "), nil)
}

const (
	glance  = time.Second      // between two looks at what comes up
	unborn  = 30 * time.Second // a supervisor that does not run for so long does not come
	waiting = "waiting for the others"
)

// rise waits until the members that were installed are those of a healthy cluster,
// and makes its roles and databases if nobody ever did. ok is false for a cluster of
// which no member was chosen.
func (i *Installer) rise(ctx context.Context, c spec.Cluster) (as InstalledAs, ok bool, err error) {
	var here []*seat
	for _, s := range i.hosts {
		for _, n := range s.nodes {
			if n.Cluster == c.Name && n.Postgres.Data != "" {
				here = append(here, &seat{site: s, node: n})
			}
		}
	}
	if len(here) == 0 {
		return as, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, i.o.Wait)
	defer cancel()
	down := map[*seat]time.Time{}
	var last seen
	for turn := 0; ; turn++ {
		lacks := i.watch(ctx, c, here, turn, &last, down)
		if len(lacks) == 0 {
			break
		}
		ended := slices.ContainsFunc(lacks, func(l lack) bool { return l.final })
		timer := time.NewTimer(glance)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			ended = true
		}
		if !ended {
			continue
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return as, true, context.Cause(ctx)
		}
		var why []string
		for _, l := range lacks {
			why = append(why, l.text)
		}
		return as, true, &problem.Error{
			Code: "install-unhealthy", What: "cluster " + c.Name + " does not become healthy", Why: strings.Join(why, "\n"),
			Do: "mend what is named; everything is installed, and the same command waits again. `howdah doctor " + i.inv.World.File + "` looks for the causes",
		}
	}
	as = InstalledAs{Cluster: c.Name, Leader: last.Picture.Leader, Made: []string{}}
	for _, s := range here {
		if s.node.Member == as.Leader {
			as.Host = s.host.Host
			as.Made, err = i.objects(ctx, s, c)
		}
	}
	return as, true, err
}

// A seat is a server on a machine.
type seat struct {
	*site
	node spec.Node
}

// A lack is what one machine or the cluster still lacks.
type lack struct {
	text  string
	final bool // it will not come by itself
}

// watch looks once at the cluster through one of its machines, and at the supervisors
// of members that do not run.
func (i *Installer) watch(ctx context.Context, c spec.Cluster, here []*seat, turn int, last *seen, down map[*seat]time.Time) (lacks []lack) {
	asked := here[turn%len(here)]
	out, err := asked.on(ctx, "status", c.Name, "--json")
	var now seen
	if json.Unmarshal([]byte(out), &now) == nil && len(now.Picture.Members) > 0 {
		*last = now
		err = nil
		for _, u := range now.Unwell {
			lacks = append(lacks, lack{text: "cluster " + c.Name + ": " + u})
		}
		if now.Picture.Leader == "" {
			lacks = append(lacks, lack{text: "cluster " + c.Name + ": there is no leader"})
		}
	} else {
		now = seen{}
		lacks = append(lacks, lack{text: asked.host.Host + " does not see the cluster yet" + because(err)})
	}
	for _, s := range here {
		state, serves := waiting, false
		for _, m := range now.Picture.Members {
			if m.Name == s.node.Member {
				state = m.State
				serves = m.Running && (m.Name == now.Picture.Leader || m.State == "streaming")
			}
		}
		if serves {
			delete(down, s)
			i.say(s.node.Member, state, -1)
			continue
		}
		out, err := s.m.Run(ctx, install.Alive(s.want), nil)
		up, log, _ := strings.Cut(out, "\n")
		switch {
		case err != nil:
			lacks = append(lacks, lack{text: s.host.Host + because(err)})
			continue
		case up == "up":
			delete(down, s)
			i.say(s.node.Member, state, -1)
			lacks = append(lacks, lack{text: s.host.Host + ": " + s.node.Member + " is " + state})
			continue
		}
		i.say(s.node.Member, "its supervisor does not run", -1)
		if down[s].IsZero() {
			down[s] = time.Now()
		}
		log = strings.TrimSpace(log)
		lacks = append(lacks, lack{
			text:  s.host.Host + ": the supervisor does not run; it said\n" + log,
			final: time.Since(down[s]) > unborn || saidWhy.MatchString(log) && time.Since(down[s]) > 3*glance,
		})
	}
	return lacks
}

// saidWhy is the end of a problem that was printed.
var saidWhy = regexp.MustCompile(`\n +\[[a-z0-9-]+\]$`)

func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + strings.ReplaceAll(err.Error(), "\n", " ")
}

// objects makes the roles and databases of a cluster to which nothing was ever applied.
func (i *Installer) objects(ctx context.Context, s *seat, c spec.Cluster) ([]string, error) {
	none := []string{}
	out, err := s.on(ctx, "applied", c.Name, "--json")
	if err != nil {
		return none, i.strange(s.site, err)
	}
	var before []json.RawMessage
	if err := json.Unmarshal([]byte(out), &before); err != nil || len(before) > 0 {
		return none, err
	}
	i.say(s.node.Member, "making roles and databases", -1)
	if out, err = s.on(ctx, "provision", c.Name, "--json"); err != nil {
		return none, i.strange(s.site, err)
	}
	var r struct {
		Done []string `json:"done"`
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return none, i.strange(s.site, err)
	}
	return append(none, r.Done...), nil
}

// carriers sees that machines without a server run what they are to.
func (i *Installer) carriers(ctx context.Context) error {
	var wrong []*problem.Error
	for _, s := range i.hosts {
		if len(s.want.Majors) > 0 {
			continue
		}
		began := time.Now()
		for {
			out, err := s.m.Run(ctx, install.Alive(s.want), nil)
			up, log, _ := strings.Cut(out, "\n")
			if err == nil && up == "up" {
				break
			}
			if err != nil || time.Since(began) > unborn {
				wrong = append(wrong, &problem.Error{
					Code: "install-unhealthy", What: members(s.nodes) + " on " + s.host.Host + " does not run", Why: strings.TrimSpace(log), Err: err,
					Do: "mend what is named; given again, the same command waits again",
				})
				break
			}
			timer := time.NewTimer(glance)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return context.Cause(ctx)
			}
		}
	}
	return gathered("not everything runs", wrong)
}

func sumOf(from opener) (string, error) {
	r, err := from()
	if err != nil {
		return "", err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
