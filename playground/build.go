package playground

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"howdah/cluster"
	"howdah/node"
	"howdah/nodefile"
	"howdah/pki"
	"howdah/postgres"
	"howdah/problem"
	"howdah/secret"
	"howdah/spec"
)

// Options are what a playground is made from.
type Options struct {
	Dir      string        // "": DefaultDir
	Ground   Ground        // Auto: what it was, else isolated where possible
	Cluster  string        // "": demo
	Count    int           // 0: 3
	First    netip.Addr    // address of the first host, the others follow; zero: 10.10.10.11
	Binary   string        // the program to copy; "": the one that runs
	Postgres spec.Postgres // Bin and Major; empty: the newest on this machine
}

// The demo inventory.
var firstHost = netip.AddrFrom4([4]byte{10, 10, 10, 11})

const (
	sqlPort  = 5432
	restPort = 8008
	etcdPort = 2379
	peerPort = 2380
	statPort = 9101
)

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
	if o.Cluster == "" {
		o.Cluster = "demo"
	}
	if o.Count == 0 {
		o.Count = 3
	}
	if o.Dir == "" {
		if o.Dir, err = DefaultDir(); err != nil {
			return err
		}
	}
	o.Dir, err = filepath.Abs(o.Dir)
	return err
}

// Build makes or completes the playground's files: directories, secrets,
// certificates, node.json, the copy of the binary. What exists is kept: a
// second Build changes nothing but the copy of a newer binary.
func Build(o Options) (State, []spec.Node, error) {
	if err := o.complete(); err != nil {
		return State{}, nil, err
	}
	name := ""
	if os.Geteuid() == 0 {
		name = spec.Superuser // PostgreSQL refuses root; its package makes this user
	}
	owner, err := node.Account(name)
	if err != nil {
		return State{}, nil, err
	}
	s := State{Dir: o.Dir, Run: runDir(o.Dir), Binary: binary(o.Dir)}
	if err := s.choose(o.Ground); err != nil {
		return State{}, nil, err
	}
	nodes, err := s.plan(o, name)
	if err == nil {
		err = named(nodes)
	}
	if err != nil {
		return State{}, nil, err
	}
	if err := s.write(o, nodes, owner); err != nil {
		return State{}, nil, err
	}
	return s, nodes, nil
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
	if o.Postgres.Bin == "" {
		found, err := postgres.Find(o.Postgres.Major)
		if err != nil {
			return nil, err
		}
		o.Postgres.Bin, o.Postgres.Major = found.Bin, found.Major
	}
	host := o.First
	if !host.IsValid() {
		host = firstHost
	}
	var nodes []spec.Node
	for i := range o.Count {
		member := o.Cluster + "-" + strconv.Itoa(i+1)
		address := host
		if s.Ground == Loopback {
			var err error
			if address, err = doorOf(host.String()); err != nil {
				return nil, err
			}
		}
		dir, run := filepath.Join(s.Dir, o.Cluster, member), filepath.Join(s.Run, member)
		n := spec.Node{
			Cluster: o.Cluster, Namespace: "/service", Member: member,
			Host: host.String(), Address: address.String(), User: user,
			Paths: spec.Paths{
				Dir: dir, Binary: s.Binary, Run: run,
				Page: filepath.Join(run, "lease"), Sockets: filepath.Join(run, "sql"),
				Log:     filepath.Join(dir, "log"),
				Secrets: filepath.Join(s.Dir, o.Cluster, secretsName),
			},
			Postgres: spec.Postgres{
				Major: o.Postgres.Major, Bin: o.Postgres.Bin, Port: sqlPort,
				Data: filepath.Join(dir, "data"),
				// Several servers share this machine.
				Parameters: map[string]string{
					"shared_buffers": "64MB", "maintenance_work_mem": "32MB",
					"min_wal_size": "80MB", "max_wal_size": "512MB",
				},
				HBA: []string{},
			},
			Etcd: spec.Etcd{
				Data: filepath.Join(dir, "etcd"), Quota: 256 << 20, Compact: time.Hour,
			},
			Agent: spec.Agent{
				Listen: netip.AddrPortFrom(address, restPort).String(), Timers: spec.Safe(),
			},
			Gateway: spec.Gateway{
				Listen: netip.AddrPortFrom(address, statPort).String(), Wait: 10 * time.Second,
			},
			Bootstrap: spec.Bootstrap{
				Databases: []spec.Database{{Name: "demo", Owner: "demo"}},
				Users:     []spec.User{{Name: "demo", Secret: "demo"}},
			},
		}
		socket := filepath.Join(n.Paths.Sockets, ".s.PGSQL."+strconv.Itoa(sqlPort)+".lock")
		if len(socket) > socketMax {
			return nil, &problem.Error{
				Code: "socket-path-long", What: "cannot place the sockets of " + member,
				Why: fmt.Sprintf("%s has %d bytes, and a socket's path may have %d", socket, len(socket), socketMax),
				Do:  "set XDG_RUNTIME_DIR to a shorter directory",
			}
		}
		nodes = append(nodes, n)
		host = host.Next()
	}
	carriers := 1
	if o.Count >= 3 {
		carriers = 3
	}
	var members []spec.EtcdMember
	for i := range carriers {
		n := &nodes[i]
		n.Etcd.Member = n.Member
		members = append(members, spec.EtcdMember{
			Name:   n.Member,
			Client: "https://" + n.Address + ":" + strconv.Itoa(etcdPort),
			Peer:   "https://" + n.Address + ":" + strconv.Itoa(peerPort),
		})
	}
	front := spec.Front{Cluster: o.Cluster, Namespace: "/service", Dest: cluster.DestPostgres}
	for i, n := range nodes {
		role := "replica" // what a member is now is laid over it
		if i == 0 {
			role = "primary"
		}
		front.Members = append(front.Members, spec.Instance{Name: n.Member, Vars: map[string]any{
			"pg_cluster": o.Cluster, "pg_seq": i + 1, "pg_role": role, "inventory_hostname": n.Host,
		}})
	}
	for i := range nodes {
		nodes[i].Etcd.Members = members
		front.Services = cluster.DefaultServices()
		for j := range front.Services {
			front.Services[j].IP = nodes[i].Address // nodes may share a machine
		}
		nodes[i].Gateway.Fronts = []spec.Front{front}
		s.Members = append(s.Members, nodes[i].Paths.Dir)
	}
	return nodes, nil
}

// write puts onto the disk what plan said, for owner.
func (s *State) write(o Options, nodes []spec.Node, owner node.User) error {
	for _, dir := range []string{s.Dir, filepath.Dir(s.Binary), filepath.Join(s.Dir, o.Cluster), filepath.Dir(s.Run), s.Run} {
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
	if err := makeSecrets(nodes[0].Paths.Secrets, owner); err != nil {
		return err
	}
	authority, err := pki.OpenAuthority(filepath.Join(s.Dir, o.Cluster, "ca"), o.Cluster)
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
		if err := makeRun(*n, owner); err != nil {
			return err
		}
		// Others dial the node's address, the host dials its door.
		addrs := []netip.Addr{netip.MustParseAddr(n.Host)}
		if door, err := doorOf(n.Host); err == nil {
			addrs = append(addrs, door)
		}
		addrs = append(addrs, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
		if n.TLS, err = authority.Issue(filepath.Join(n.Paths.Dir, "tls"), n.Member, addrs...); err != nil {
			return err
		}
		// An existing description is kept; it names a data directory that was
		// made by it.
		if old, err := nodefile.Load(n.Paths.Dir); err == nil {
			*n = old
			continue
		} else if _, missing := os.Stat(filepath.Join(n.Paths.Dir, nodefile.Name)); !errors.Is(missing, os.ErrNotExist) {
			return err
		}
		if err := nodefile.Write(*n, owner.UID, owner.GID); err != nil {
			return err
		}
	}
	return s.save()
}

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

// makeSecrets generates the passwords that are not there yet.
func makeSecrets(path string, owner node.User) error {
	have := map[string]secret.Text{}
	if _, err := os.Stat(path); err == nil {
		if have, err = nodefile.Secrets(spec.Node{Paths: spec.Paths{Secrets: path}}); err != nil {
			return err
		}
	}
	changed := false
	for _, name := range []string{spec.SecretSuper, spec.SecretReplicate, "demo"} {
		if have[name] == "" {
			have[name], changed = secret.Text(rand.Text()), true
		}
	}
	if !changed {
		return nil
	}
	return nodefile.WriteSecrets(path, have, owner.UID, owner.GID)
}
