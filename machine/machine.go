// Package machine makes of an inventory what one real machine runs: its nodes'
// directories, certificates and node.json.
//
// Nothing is other than the inventory says: the nodes have the host's own address
// and the PostgreSQL that is asked for. A host of several servers has a node for
// each, which counts on its share of the machine. What every machine
// must have alike is made once, by Keys, and copied by a person: Take makes none
// of it, because an authority of its own would shut this machine out.
package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"howdah/node"
	"howdah/nodefile"
	"howdah/pki"
	"howdah/playground"
	"howdah/postgres"
	"howdah/postgres/conf"
	"howdah/problem"
	"howdah/secret"
	"howdah/spec"
	"howdah/spec/place"
)

// authority is where the authority lives: one for all clusters of an inventory,
// since they share its store.
const authority = "ca"

// pgDbsu makes place name each server's user as the inventory does.
const pgDbsu = "pg_dbsu"

// Authority are the files of the authority in dir.
func Authority(dir string) (cert, key string) {
	return filepath.Join(dir, authority, "ca.pem"), filepath.Join(dir, authority, "ca.key")
}

// Keys makes in dir what every machine must have alike, the authority and the
// secrets of each cluster, and returns their paths. What is there is kept.
func Keys(dir string, w spec.World) ([]string, error) {
	if err := Vacant(dir, w); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if _, err := pki.OpenAuthority(filepath.Join(dir, authority), "howdah"); err != nil {
		return nil, err
	}
	paths := []string{filepath.Join(dir, authority)}
	for _, c := range w.Follow() {
		path := SecretsOf(dir, c.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		given := c.Secrets
		if up := c.Upstream.Cluster; up != "" {
			var err error
			if given, err = nodefile.Inherited(SecretsOf(dir, up), given); err != nil {
				return nil, err
			}
		}
		if _, err := nodefile.MergeSecrets(path, given, -1, -1); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// Take writes to dir what host runs, or those of it that are named, and returns
// these nodes. Given again it changes only what the inventory now has otherwise.
func Take(dir, host string, w spec.World, only ...string) ([]spec.Node, error) {
	if err := Vacant(dir, w); err != nil {
		return nil, err
	}
	nodes, err := plan(dir, host, w)
	if err != nil {
		return nil, err
	}
	if len(only) > 0 {
		nodes = slices.DeleteFunc(nodes, func(n spec.Node) bool { return !slices.Contains(only, n.Member) })
	}
	for _, n := range nodes { // all are looked at before any is written
		if err := errors.Join(same(n), complete(dir, n, clusterOf(w, n))); err != nil {
			return nil, err
		}
		if _, err := node.Account(n.User); err != nil {
			return nil, err
		}
	}
	for i, n := range nodes {
		if err := reached(n, w); err != nil {
			return nil, err
		}
		if nodes[i], err = write(dir, n, clusterOf(w, n)); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

// clusterOf is the cluster whose server n has, if it has one.
func clusterOf(w spec.World, n spec.Node) spec.Cluster {
	i := slices.IndexFunc(w.Clusters, func(c spec.Cluster) bool { return c.Name == n.Cluster })
	if i < 0 {
		return spec.Cluster{}
	}
	return w.Clusters[i]
}

// reached writes how servers that are not ours are reached, of which n tells the metrics.
func reached(n spec.Node, w spec.World) error {
	if len(n.Remotes) == 0 {
		return nil
	}
	owner, err := node.Account(n.User)
	if err != nil {
		return err
	}
	if err := directories(n, owner); err != nil {
		return err
	}
	all := map[string]secret.Text{}
	for _, m := range w.Remotes {
		if m.Host == n.Host {
			all[m.Member] = m.URL
		}
	}
	return nodefile.WriteSecrets(n.Remotes[0].URLs, all, owner.UID, owner.GID)
}

// write makes the node's directories, certificate and description.
func write(dir string, n spec.Node, c spec.Cluster) (spec.Node, error) {
	owner, err := node.Account(n.User)
	if err != nil {
		return n, err
	}
	addr, err := netip.ParseAddr(n.Host)
	if err != nil {
		return n, fmt.Errorf("host %s: %w", n.Host, err)
	}
	if err := directories(n, owner); err != nil {
		return n, err
	}
	if c.Name != "" {
		if err := share(n, c, owner); err != nil {
			return n, err
		}
	}
	ca, err := pki.OpenAuthority(filepath.Join(dir, authority), "howdah")
	if err != nil {
		return n, err
	}
	if owner.UID >= 0 {
		ca = ca.For(&pki.Owner{UID: owner.UID, GID: owner.GID})
	}
	addrs := []netip.Addr{addr, netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	if p, err := netip.ParsePrefix(n.VIP.Address); err == nil {
		addrs = append(addrs, p.Addr())
	}
	n.TLS, err = ca.Issue(filepath.Join(n.Paths.Dir, "tls"), n.Member, addrs...)
	if err != nil {
		return n, err
	}
	if n.Observe.Console != "" {
		if _, err := nodefile.MergeSecrets(n.Observe.Secrets, map[string]secret.Text{spec.SecretConsole: "", spec.SecretOperator: ""}, owner.UID, owner.GID); err != nil {
			return n, err
		}
	}
	if _, err = nodefile.Update(n, owner.UID, owner.GID); err != nil {
		return n, err
	}
	return n, node.Rejoin(n)
}

// Hosts are the nodes of the machines of w, those of a host in the order in which
// it carries them, with what is the same wherever they are looked at from: names,
// ports and paths below dir and run. What depends on the machine itself, its
// PostgreSQL and its size, is not in them.
func Hosts(dir, run string, w spec.World) []spec.Node {
	small := conf.Machine{CPU: 1, MemoryMB: 1 << 10, DiskSize: 1 << 34}
	at := place.Site{Dir: dir, Run: run, User: pgDbsu, Machine: small, Programs: map[int]spec.Postgres{}}
	for _, c := range w.Clusters {
		at.Programs[c.Major] = spec.Postgres{Major: c.Major}
	}
	return named(place.Nodes(w, at))
}

// named gives nodes without a server, for which nobody named a user, PostgreSQL's.
func named(nodes []spec.Node) []spec.Node {
	for i, n := range nodes {
		if n.User == pgDbsu {
			nodes[i].User = spec.Superuser
		}
	}
	return nodes
}

// Preview are the nodes that Take would write, with the certificates that are
// there; it touches nothing.
func Preview(dir, host string, w spec.World) ([]spec.Node, error) {
	nodes, err := plan(dir, host, w)
	if err != nil {
		return nil, err
	}
	for i, n := range nodes {
		was, err := nodefile.Load(n.Paths.Dir)
		if err == nil {
			nodes[i].TLS = was.TLS // as Take has it
			if !slices.Equal(was.Etcd.Members, n.Etcd.Members) {
				return nil, &problem.Error{
					Code: "store-fixed", What: "cannot change " + n.Member + " to what " + w.File + " says",
					Why: "the members of etcd would be others, and this version can not change them",
					Do:  "say in a group etcd which hosts carry it: those that do now",
				}
			}
		}
		if err := same(n); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

// plan says what host runs; it touches nothing.
func plan(dir, host string, w spec.World) ([]spec.Node, error) {
	what := "cannot run host " + host + " of " + w.File
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("path of this program: %w", err)
	}
	at := place.Site{Dir: dir, Run: runDir(dir), Binary: program, Programs: map[int]spec.Postgres{}}
	if os.Geteuid() == 0 {
		at.User = pgDbsu
	}
	servers := 0
	for _, c := range w.Clusters {
		at.Programs[c.Major] = spec.Postgres{Major: c.Major} // other machines' need not be here
	}
	for _, c := range w.Clusters {
		here := 0
		for _, m := range c.Members {
			if m.Host == host {
				here++
			}
		}
		if servers += here; here == 0 {
			continue
		}
		found, err := postgres.Find(c.Major)
		if err != nil {
			return nil, err
		}
		at.Programs[c.Major] = spec.Postgres{Bin: found.Bin, Major: found.Major}
	}
	if at.Machine, err = measure(dir); err != nil {
		return nil, err
	}
	at.Machine = at.Machine.Share(servers)
	var hosts []string
	var here []spec.Node
	for _, n := range named(place.Nodes(w, at)) {
		hosts = append(hosts, n.Host)
		if n.Host == host {
			here = append(here, n)
		}
	}
	slices.Sort(hosts)
	if len(here) == 0 {
		return nil, &problem.Error{
			Code: "host-unknown", What: what,
			Why: "the inventory has the hosts " + strings.Join(slices.Compact(hosts), ", "), Do: "name one of these with --host",
		}
	}
	for _, n := range here {
		if err := libraries(n); err != nil {
			return nil, err
		}
	}
	return here, nil
}

// measure looks at the machine that has dir, which may not be there yet.
func measure(dir string) (conf.Machine, error) {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return postgres.Machine(dir)
		}
		dir = filepath.Dir(dir)
	}
}

// libraries refuses a server that would not start.
func libraries(n spec.Node) error {
	var missing []string
	for name := range strings.SplitSeq(n.Postgres.Parameters["shared_preload_libraries"], ",") {
		name = strings.TrimPrefix(strings.Trim(strings.TrimSpace(name), `'"`), "$libdir/")
		if name != "" && !postgres.HasLibrary(n.Postgres.Bin, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return &problem.Error{
		Code: "library-missing", What: "cannot run " + n.Member,
		Why: fmt.Sprintf("its shared_preload_libraries has %s, which PostgreSQL %d of this machine has not", strings.Join(missing, ", "), n.Postgres.Major),
		Do:  "install the packages that have them, or take them out of pg_libs in the inventory",
	}
}

// same refuses a host that has become another: its data and its place in the
// store go by its address.
func same(n spec.Node) error {
	was, err := nodefile.Load(n.Paths.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case was.Host != n.Host:
		return &problem.Error{
			Code: "host-other", What: "cannot run " + n.Member + " as host " + n.Host,
			Why: n.Paths.Dir + " is that of host " + was.Host, Do: "give --host " + was.Host + ", or another directory with --dir",
		}
	}
	return nil
}

// complete refuses to begin without what all machines share.
func complete(dir string, n spec.Node, c spec.Cluster) error {
	var missing []string
	for _, name := range []string{"ca.pem", "ca.key"} {
		path := filepath.Join(dir, authority, name)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, path)
		} else if err != nil {
			return fmt.Errorf("keys: %w", err)
		}
	}
	if c.Name != "" {
		_, err := os.Stat(n.Paths.Secrets)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, n.Paths.Secrets)
		case err != nil:
			return fmt.Errorf("keys: %w", err)
		default:
			have, err := nodefile.Secrets(n)
			if err != nil {
				return err
			}
			for name, given := range c.Secrets {
				if given == "" && have[name] == "" {
					missing = append(missing, name+" in "+n.Paths.Secrets)
				}
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return &problem.Error{
		Code: "keys-missing", What: "cannot run " + n.Member + " on this machine", Why: "there is no " + strings.Join(missing, ", no "),
		Do: "copy them from the machine where `howdah keys` made them, to the same place; on the first machine run `howdah keys`",
	}
}

// share puts the passwords of the inventory to those that were copied, and
// gives the file to owner.
func share(n spec.Node, c spec.Cluster, owner node.User) error {
	if _, err := nodefile.MergeSecrets(n.Paths.Secrets, c.Secrets, owner.UID, owner.GID); err != nil {
		return err
	}
	if err := os.Lchown(n.Paths.Secrets, owner.UID, owner.GID); err != nil {
		return fmt.Errorf("secrets: %w", err)
	}
	return os.Chmod(n.Paths.Secrets, 0o600)
}

// directories makes the node's: those above are everybody's to enter.
func directories(n spec.Node, owner node.User) error {
	for _, dir := range []string{filepath.Dir(n.Paths.Dir), filepath.Dir(n.Paths.Run)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("directory: %w", err)
		}
	}
	for _, dir := range []string{n.Paths.Dir, n.Paths.Log, n.Paths.Run, n.Paths.Sockets} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("directory: %w", err)
		}
		if err := os.Lchown(dir, owner.UID, owner.GID); err != nil {
			return fmt.Errorf("directory: %w", err)
		}
	}
	return nil
}

// Vacant refuses a playground's directory: its nodes are others.
func Vacant(dir string, w spec.World) error {
	why := "there is a playground in it"
	if _, err := playground.Load(dir); problem.Code(err) == "playground-none" {
		why = ""
	}
	for _, c := range w.Clusters {
		if c.Name == authority {
			why = "cluster " + c.Name + " would be where the authority is kept"
		}
	}
	if why == "" {
		return nil
	}
	return &problem.Error{
		Code: "dir-occupied", What: "cannot set up this machine in " + dir, Why: why, Do: "give another directory with --dir; nothing was changed",
	}
}

// SecretsOf is the file of a cluster's passwords in dir.
func SecretsOf(dir, cluster string) string { return filepath.Join(dir, cluster, "secrets.json") }

// runDir is in tmpfs where there is one of ours, and short: a socket's path has
// 107 bytes.
func runDir(dir string) string {
	base := os.Getenv("XDG_RUNTIME_DIR")
	switch {
	case os.Geteuid() == 0:
		return "/run/howdah"
	case filepath.IsAbs(base):
		return filepath.Join(base, "howdah")
	}
	return filepath.Join(dir, "run")
}
