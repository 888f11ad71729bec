package playground

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"howdah/dcs/embed"
	"howdah/node"
	"howdah/nodefile"
	"howdah/pki"
	"howdah/problem"
	"howdah/secret"
	"howdah/spec"
	"howdah/spec/pigsty"
	"howdah/spec/place"
)

// Options are what a playground is made from.
type Options struct {
	Dir      string        // "": DefaultDir
	Ground   Ground        // Auto: what it was, else isolated where possible
	World    spec.World    // what to build; empty: what is there, else the demo
	Cluster  string        // of the demo; "": demo
	Count    int           // of the demo's hosts; 0: 3
	MaxLoss  int64         // of the demo: bytes that a lost host may cost (max_loss); 0: nothing, from three hosts on
	First    netip.Addr    // address of the demo's first host, the others follow; zero: 10.10.10.11
	Binary   string        // the program to copy; "": the one that runs
	Postgres spec.Postgres // Bin and Major in place of what the world asks for; empty: what this machine has
	Only     []string      // clusters, and members as CLUSTER/MEMBER, that the world counts for; empty: all
	Keep     bool          // members that the world has not stay as they are
	Observe  *bool         // whether a node keeps metrics; nil: as it was, at first none

	given bool // the world is; it is not the demo's
}

// socketMax is what sun_path holds, with its final zero (unix(7)).
const socketMax = 107

// binary is the copy that a playground runs, whatever becomes of the original.
func binary(dir string) string { return filepath.Join(dir, "bin", "howdah") }

const (
	secretsName = "secrets.json"
	halfCopied  = ".howdah-" // begins the name of a copy of the program that is being made
)

// complete sets what was left out.
func (o *Options) complete() (err error) {
	if o.Dir == "" {
		if o.Dir, err = DefaultDir(); err != nil {
			return err
		}
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return err
	}
	if o.World.File == "" {
		if err := spec.CheckNames(cmp.Or(o.Cluster, "demo"), nil); err != nil {
			return err
		}
		o.World = demo(*o)
	} else if o.World.File != demoFile {
		o.given = true
	}
	return o.World.Err()
}

// Demo is the world without an inventory, for a playground that is there already:
// one more cluster like it.
func Demo(name string, first netip.Addr, count int) spec.World {
	w := demo(Options{Cluster: name, First: first, Count: count})
	w.File = "(the demo, as " + name + ")"
	return w
}

// demo is the world without an inventory: an inventory too.
func demo(o Options) spec.World {
	first, count := o.First, cmp.Or(o.Count, 3)
	if !first.IsValid() {
		first = netip.AddrFrom4([4]byte{10, 10, 10, 11})
	}
	var hosts []string
	for ; len(hosts) < count; first = first.Next() {
		hosts = append(hosts, first.String())
	}
	text := strings.NewReplacer(
		"cluster: demo", "cluster: "+strconv.Quote(cmp.Or(o.Cluster, "demo")),
		"hosts: []", "hosts: ["+strings.Join(hosts, ", ")+"]").Replace(demoText)
	if o.MaxLoss > 0 {
		text += "max_loss: " + strconv.FormatInt(o.MaxLoss, 10) + "\n"
	}
	return pigsty.Read(demoFile, []byte(text))
}

// demoFile is what messages call the inventory of the demo.
const demoFile = "(demo)"

//go:embed demo.yml
var demoText string

// directories are those of the world's clusters, and of groups of hosts that
// have no server.
func (o Options) directories() []string {
	var names []string
	for _, c := range o.World.Clusters {
		names = append(names, c.Name)
	}
	for _, other := range o.World.Others {
		names = append(names, other.Group)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Built is what Build made.
type Built struct {
	State   State
	Nodes   []spec.Node
	Grown   bool            // there are nodes, or doors to them, that the playground had not
	Changed map[string]bool // members that were there and are now described otherwise

	joins map[string]bool // new ones whose members of the store join those that are there
}

// Build makes or completes the playground's files: directories, secrets,
// certificates, node.json, the copy of the binary. A second Build changes only
// what the inventory now has otherwise, and the copy of a newer binary.
func Build(o Options) (Built, error) {
	if err := o.complete(); err != nil {
		return Built{}, err
	}
	name := ""
	if os.Geteuid() == 0 {
		name = spec.Superuser // PostgreSQL refuses root; its package makes this user
	}
	owner, err := node.Account(name)
	if err != nil {
		return Built{}, err
	}
	s := State{Dir: o.Dir, Run: runDir(o.Dir), Binary: binary(o.Dir)}
	if err := s.choose(o.Ground); err != nil {
		return Built{}, err
	}
	b := Built{Changed: map[string]bool{}, joins: map[string]bool{}}
	old, err := Load(o.Dir)
	switch there := err == nil; {
	case there && !o.given: // whatever was made here before
		s.Members, s.Substituted = old.Members, old.Substituted
		b.Nodes, err = old.Nodes()
		o.World.Clusters = nil
	default:
		if b.Nodes, err = s.plan(o, name); err == nil && there {
			err = old.grows(b.Nodes)
		}
	}
	if err == nil {
		o.observe(b.Nodes, old)
		was, _ := old.Nodes() // what can not be read is refused before
		b.Grown = old.Dir != "" && (len(old.Members) < len(s.Members) || opens(was, b.Nodes))
		for _, n := range b.Nodes {
			b.joins[n.Member] = len(was) > 0 && n.Etcd.Member != "" && !slices.Contains(old.Members, n.Paths.Dir)
		}
		err = named(b.Nodes)
	}
	if err == nil {
		err = s.write(o, b, owner)
	}
	b.State = s
	return b, err
}

// Preview is what Build would make of the world, and what is there; it touches
// nothing. Certificates are those that are there.
func Preview(o Options) (want, was []spec.Node, err error) {
	if err := o.complete(); err != nil {
		return nil, nil, err
	}
	name := ""
	if os.Geteuid() == 0 {
		name = spec.Superuser
	}
	s := State{Dir: o.Dir, Run: runDir(o.Dir), Binary: binary(o.Dir)}
	if err := s.choose(o.Ground); err != nil {
		return nil, nil, err
	}
	old, err := Load(o.Dir)
	if err == nil {
		was, err = old.Nodes()
	}
	if err != nil && problem.Code(err) != "playground-none" {
		return nil, nil, err
	}
	if want, err = s.plan(o, name); err != nil {
		return nil, nil, err
	}
	o.observe(want, old)
	for i := range want {
		if j := slices.IndexFunc(was, func(n spec.Node) bool { return n.Paths.Dir == want[i].Paths.Dir }); j >= 0 {
			want[i].Certify(was[j].TLS)
		}
	}
	return want, was, named(want)
}

// observe gives one of nodes the store of metrics: the one that had it, or else
// the first.
func (o Options) observe(nodes []spec.Node, old State) {
	was, _ := old.Nodes() // what can not be read is refused before
	at := -1
	if i := slices.IndexFunc(was, func(n spec.Node) bool { return n.Observe.On() }); i >= 0 {
		at = max(0, slices.IndexFunc(nodes, func(n spec.Node) bool { return n.Paths.Dir == was[i].Paths.Dir })) // it may have left
	}
	if o.Observe != nil {
		if at < 0 { // where the inventory has it, or else the first
			at = max(0, slices.IndexFunc(nodes, func(n spec.Node) bool {
				return slices.ContainsFunc(o.World.Metrics, func(m spec.Metrics) bool { return m.Host == n.Host })
			}))
		}
		if !*o.Observe {
			at = -1
		}
	}
	place.Observe(nodes, at)
}

// counts says whether the world counts for a member, or for some of a cluster.
func (o Options) counts(cluster, member string) bool {
	return len(o.Only) == 0 || slices.ContainsFunc(o.Only, func(only string) bool {
		of, name, one := strings.Cut(only, "/")
		return of == cluster && (!one || member == "" || name == member)
	})
}

// choose settles the ground: the one that is there stays.
func (s *State) choose(wish Ground) error {
	old, err := Load(s.Dir)
	switch {
	case err == nil && wish != Auto && wish != old.Ground && !(wish == Isolated && old.Reason != ""):
		return &problem.Error{
			Code: "ground-fixed", What: "cannot change the ground of the playground in " + s.Dir,
			Why: fmt.Sprintf("it stands on %s, and its nodes know each other by those addresses", old.Ground),
			Do:  "leave --ground out, or give another --dir, or `howdah down --purge` first",
		}
	case err == nil:
		s.Ground, s.Reason = old.Ground, old.Reason
		return nil
	case problem.Code(err) != "playground-none":
		return err
	}
	s.Ground = wish
	switch {
	case wish == Isolated || wish == Auto && os.Geteuid() == 0:
		s.Ground = Isolated
		if err := tryNamespaces(); err != nil {
			s.Ground, s.Reason = Loopback, err.Error()
		}
	case wish == Auto:
		s.Ground = Loopback
	}
	return nil
}

// plan says what each node is; it touches nothing.
func (s *State) plan(o Options, user string) ([]spec.Node, error) {
	at, err := s.site(o, user)
	if err != nil {
		return nil, err
	}
	was, err := Nodes(s.Dir)
	if err != nil && problem.Code(err) != "playground-none" {
		return nil, err
	}
	nodes := settled(o.World, was, place.Nodes(o.World, at))
	if o.Keep {
		Hold(was, nodes)
	}
	if len(o.Only) > 0 || o.Keep {
		nodes = o.only(was, nodes)
	}
	if old, err := Load(s.Dir); err == nil {
		s.Members = slices.Clone(old.Members)
	}
	for i := range nodes {
		n := &nodes[i]
		if !slices.Contains(s.Members, n.Paths.Dir) {
			s.Members = append(s.Members, n.Paths.Dir)
		}
		if n.Postgres.Data == "" {
			continue
		}
		socket := filepath.Join(n.Paths.Sockets, ".s.PGSQL."+strconv.Itoa(n.Postgres.Port)+".lock")
		if len(socket) > socketMax {
			return nil, &problem.Error{
				Code: "socket-path-long", What: "cannot place the sockets of " + n.Member,
				Why: fmt.Sprintf("%s has %d bytes, and a socket's path may have %d", socket, len(socket), socketMax),
				Do:  "set XDG_RUNTIME_DIR to a shorter directory",
			}
		}
		s.available(n)
	}
	return nodes, nil
}

// only leaves nodes as they are that the world does not count for, or has not if
// they are to be kept; what it does not count for and is not there is left out.
func (o Options) only(was, nodes []spec.Node) []spec.Node {
	at := func(list []spec.Node, dir string) int {
		return slices.IndexFunc(list, func(n spec.Node) bool { return n.Paths.Dir == dir })
	}
	var all []spec.Node
	for _, w := range was {
		switch i := at(nodes, w.Paths.Dir); {
		case i >= 0 && o.counts(w.Cluster, w.Member):
			all = append(all, nodes[i])
		case i >= 0 || o.Keep:
			all = append(all, w)
		}
	}
	for _, n := range nodes {
		if at(was, n.Paths.Dir) < 0 && o.counts(n.Cluster, n.Member) {
			all = append(all, n)
		}
	}
	return all
}

// settled keeps the members of the store as they are where the inventory leaves
// them to us: they would be those of its first hosts, whoever these are now. A
// node whose server has left stays with its member of the store.
func settled(w spec.World, was, nodes []spec.Node) []spec.Node {
	at := func(list []spec.Node, dir string) int {
		return slices.IndexFunc(list, func(n spec.Node) bool { return n.Paths.Dir == dir })
	}
	first := slices.IndexFunc(was, func(n spec.Node) bool { return at(nodes, n.Paths.Dir) >= 0 })
	if first < 0 || slices.ContainsFunc(w.Stores, func(s spec.Store) bool { return !s.Implied }) {
		return nodes
	}
	members := was[first].Etcd.Members
	if len(members) < len(nodes[0].Etcd.Members) {
		return nodes // which is refused: a store does not grow by itself
	}
	for i := range nodes {
		e := &nodes[i].Etcd
		e.Member, e.Data, e.Members = "", "", members
		if j := at(was, nodes[i].Paths.Dir); j >= 0 {
			e.Member, e.Data = was[j].Etcd.Member, was[j].Etcd.Data
		}
	}
	for _, n := range was {
		carries := slices.ContainsFunc(members, func(m spec.EtcdMember) bool { return m.Name == n.Etcd.Member })
		if carries && n.Alone() && at(nodes, n.Paths.Dir) < 0 {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// Hold leaves the store of a playground to those who carry it, and returns who is to: that
// is brought about by one change after another (control). A node that is not there yet
// joins the others when it starts for the first time.
func Hold(was, nodes []spec.Node) (wanted []spec.EtcdMember) {
	if len(was) == 0 || len(nodes) == 0 {
		return nil
	}
	wanted = nodes[0].Etcd.Members
	for i := range nodes {
		e := &nodes[i].Etcd
		if j := slices.IndexFunc(was, func(w spec.Node) bool { return w.Paths.Dir == nodes[i].Paths.Dir }); j >= 0 {
			e.Member, e.Data, e.Members = was[j].Etcd.Member, was[j].Etcd.Data, was[j].Etcd.Members
			continue
		}
		own, carries := e.Self()
		if e.Members = was[0].Etcd.Members; carries && !slices.Contains(e.Members, own) {
			e.Members = append(slices.Clone(e.Members), own)
		}
	}
	return wanted
}

// opens says that the host wants ports of nodes that it had not so far. A door
// that nobody wants any more stays until the keeper is another: to replace it for
// that would end whoever came by the others.
func opens(was, nodes []spec.Node) bool {
	return slices.ContainsFunc(nodes, func(n spec.Node) bool {
		i := slices.IndexFunc(was, func(w spec.Node) bool { return w.Paths.Dir == n.Paths.Dir })
		return i >= 0 && slices.ContainsFunc(doorPorts(n), func(port int) bool { return !slices.Contains(doorPorts(was[i]), port) })
	})
}

// grows refuses what would leave a member of the playground behind, or a store
// or a data directory that no longer fits.
func (s State) grows(nodes []spec.Node) error {
	refuse := func(why string) error {
		return &problem.Error{
			Code: "playground-other", What: "cannot change the playground in " + s.Dir + " to this inventory", Why: why,
			Do: "`howdah apply` lets members leave and move; or give another directory with --dir, or `howdah down --purge` first; nothing was changed",
		}
	}
	was, err := s.Nodes()
	if err != nil {
		return err
	}
	for _, w := range was {
		i := slices.IndexFunc(nodes, func(n spec.Node) bool { return n.Paths.Dir == w.Paths.Dir })
		if i < 0 {
			return refuse("it has the member " + w.Member + ", and the inventory has not")
		}
		n := nodes[i]
		switch {
		case n.Host != w.Host:
			return refuse(w.Member + " is on host " + w.Host + ", and on " + n.Host + " in the inventory")
		case n.Postgres.Major != w.Postgres.Major && !w.Alone(): // one that was left its store alone may be a member again
			return refuse(fmt.Sprintf("the data of %s is of PostgreSQL %d, and the inventory has %d", w.Member, w.Postgres.Major, n.Postgres.Major))
		case !slices.Equal(n.Etcd.Members, w.Etcd.Members):
			return refuse("the members of etcd would be others")
		}
	}
	return nil
}

// write puts onto the disk what plan said, for owner.
func (s *State) write(o Options, b Built, owner node.User) error {
	nodes := b.Nodes
	dirs := []string{s.Dir, filepath.Dir(s.Binary), filepath.Dir(s.Run), s.Run}
	for _, n := range nodes {
		dirs = append(dirs, filepath.Dir(n.Paths.Dir))
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return noDirectory(dir, err)
		}
	}
	if err := enterable(filepath.Dir(s.Binary), owner); err != nil {
		return err
	}
	if err := ours(filepath.Dir(s.Run)); err != nil {
		return err
	}
	if err := copyBinary(o.Binary, s.Binary); err != nil {
		return err
	}
	for _, c := range o.World.Follow() {
		if !o.counts(c.Name, "") {
			continue
		}
		path := filepath.Join(s.Dir, c.Name, secretsName)
		before := ownSecrets(path)
		given := c.Secrets
		if up := c.Upstream.Cluster; up != "" {
			var err error
			if given, err = nodefile.Inherited(filepath.Join(s.Dir, up, secretsName), given); err != nil {
				return err
			}
		}
		other, err := nodefile.MergeSecrets(path, given, owner.UID, owner.GID)
		if err != nil {
			return err
		}
		other = other && !maps.Equal(before, ownSecrets(path))
		for _, m := range c.Members {
			b.Changed[m.Name] = other
		}
	}
	for _, other := range o.World.Others {
		if !slices.ContainsFunc(nodes, func(n spec.Node) bool { return n.Member == other.Name && len(n.Gateway.Fronts) > 0 }) {
			continue
		}
		path := filepath.Join(s.Dir, other.Group, secretsName)
		changed, err := nodefile.MergeSecrets(path, other.Secrets, owner.UID, owner.GID)
		if err != nil {
			return err
		}
		b.Changed[other.Name] = b.Changed[other.Name] || changed
	}
	authority, err := pki.OpenAuthority(s.authority(), "howdah")
	if err != nil {
		return err
	}
	if owner.UID >= 0 {
		authority = authority.For(&pki.Owner{UID: owner.UID, GID: owner.GID})
	}
	for i := range nodes {
		n := &nodes[i]
		for _, dir := range []string{n.Paths.Dir, n.Paths.Log} {
			if err := ownDir(dir, owner); err != nil {
				return err
			}
		}
		if b.joins[n.Member] {
			if err := embed.Rejoin(n.Etcd.Data, owner.UID, owner.GID); err != nil {
				return err
			}
		}
		if err := makeRun(*n, owner); err != nil {
			return err
		}
		// Others dial the node's address, the host dials its door.
		addrs := []netip.Addr{netip.MustParseAddr(n.Host)}
		if door, err := doorOf(n.Host); err == nil {
			addrs = append(addrs, door)
		}
		addrs = append(addrs, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
		if p, err := netip.ParsePrefix(n.VIP.Address); err == nil {
			addrs = append(addrs, p.Addr())
		}
		files, err := authority.Issue(filepath.Join(n.Paths.Dir, "tls"), n.Member, addrs...)
		if err != nil {
			return err
		}
		n.Certify(files)
		was, _ := nodefile.Load(n.Paths.Dir) // whatever is wrong with it, it is written anew
		other, err := nodefile.Update(*n, owner.UID, owner.GID)
		if err != nil {
			return err
		}
		was.Objects = n.Objects // neither supervisor nor agent reads them
		b.Changed[n.Member] = b.Changed[n.Member] || other && !reflect.DeepEqual(was, *n)
		if n.Observe.Console != "" {
			if _, err := nodefile.MergeSecrets(n.Observe.Secrets, map[string]secret.Text{spec.SecretConsole: "", spec.SecretOperator: ""}, owner.UID, owner.GID); err != nil {
				return err
			}
		}
	}
	return s.save()
}

// ownSecrets are those of the secrets at path by which roles of a node work;
// those of the inventory's users are the server's.
func ownSecrets(path string) map[string]secret.Text {
	all, _ := nodefile.Secrets(spec.Node{Paths: spec.Paths{Secrets: path}}) // none yet, or what MergeSecrets refuses
	maps.DeleteFunc(all, func(name string, _ secret.Text) bool { return strings.HasPrefix(name, "user:") })
	return all
}

func (s State) authority() string { return filepath.Join(s.Dir, "ca") }

// ours refuses a run directory that somebody else put where we look for ours,
// which anyone can do below /tmp.
func ours(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("run directory %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR && int(st.Uid) == os.Geteuid() && st.Mode&0o022 == 0 {
		return nil
	}
	return &problem.Error{
		Code: "run-dir-foreign", What: "cannot keep sockets and pid files in " + dir,
		Why: fmt.Sprintf("it is no directory of ours alone (owner %d, mode %04o)", st.Uid, st.Mode&0o7777),
		Do:  "remove it, or set XDG_RUNTIME_DIR to a directory of your own",
	}
}

// makeRun makes the node's run directory, which a reboot takes away.
func makeRun(n spec.Node, owner node.User) error {
	for _, dir := range []string{n.Paths.Run, n.Paths.Sockets} {
		if err := ownDir(dir, owner); err != nil {
			return err
		}
	}
	return nil
}

// ownDir makes dir for owner alone.
func ownDir(dir string, owner node.User) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	if owner.UID < 0 {
		return nil
	}
	return os.Lchown(dir, owner.UID, owner.GID)
}

// enterable finds the first directory on the way to dir that owner may not
// enter.
func enterable(dir string, owner node.User) error {
	if owner.Credential == nil {
		return nil
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	var way []string
	for d := dir; ; d = filepath.Dir(d) {
		way = append(way, d)
		if d == filepath.Dir(d) {
			break
		}
	}
	for _, d := range slices.Backward(way) {
		var st unix.Stat_t
		if err := unix.Stat(d, &st); err != nil {
			return fmt.Errorf("directory %s: %w", d, err)
		}
		bit := uint32(0o001)
		switch {
		case st.Uid == owner.Credential.Uid:
			bit = 0o100
		case st.Gid == owner.Credential.Gid || slices.Contains(owner.Credential.Groups, st.Gid):
			bit = 0o010
		}
		if st.Mode&bit == 0 {
			return &problem.Error{
				Code: "datadir-path", What: "cannot keep a playground in " + dir,
				Why: fmt.Sprintf("user %s, who runs PostgreSQL, cannot enter %s (mode %04o)", owner.Name, d, st.Mode&0o7777),
				Do:  "`chmod o+x " + d + "`, or give another directory with --dir",
			}
		}
	}
	return nil
}

// copyBinary puts a copy of the program to where every role can run it. A copy
// that runs is not touched: it keeps its inode, the new one gets the name.
func copyBinary(from, to string) error {
	if from == "" {
		from = "/proc/self/exe" // the running program, whatever its path is now
	}
	src, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy the program: %w", err)
	}
	defer src.Close()
	if same, err := equal(src, to); err != nil || same {
		return err
	}
	dst, err := os.CreateTemp(filepath.Dir(to), halfCopied)
	if err != nil {
		return fmt.Errorf("copy the program: %w", err)
	}
	defer os.Remove(dst.Name())
	defer dst.Close()
	if _, err := io.Copy(dst, src); err != nil {
		return fmt.Errorf("copy the program: %w", err)
	}
	if err := errors.Join(dst.Chmod(0o755), dst.Sync(), dst.Close()); err != nil {
		return fmt.Errorf("copy the program: %w", err)
	}
	return os.Rename(dst.Name(), to)
}

// equal compares src with the file at path and rewinds src.
func equal(src *os.File, path string) (bool, error) {
	old, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer old.Close()
	a, err := src.Stat()
	if err != nil {
		return false, err
	}
	b, err := old.Stat()
	if err != nil || a.Size() != b.Size() {
		return false, err
	}
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(src, x)
		m, _ := io.ReadFull(old, y)
		if !bytes.Equal(x[:n], y[:m]) {
			_, err := src.Seek(0, io.SeekStart)
			return false, err
		}
		if err != nil {
			return true, nil // both ended
		}
	}
}
