package playground

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"howdah/postgres"
	"howdah/postgres/conf"
	"howdah/problem"
	"howdah/spec"
	"howdah/spec/place"
)

// site is where this playground places a world's nodes, with everything that
// must be other than on real machines. What it changes it notes.
func (s *State) site(o Options, user string) (place.Site, error) {
	servers := 0
	for _, c := range o.World.Clusters {
		servers += len(c.Members)
	}
	machine, err := postgres.Machine(s.Dir)
	if err != nil {
		return place.Site{}, err
	}
	share := conf.Machine{CPU: max(1, machine.CPU/max(servers, 1)), MemoryMB: machine.MemoryMB / max(servers, 1)}
	at := place.Site{
		Dir: s.Dir, Run: s.Run, Binary: s.Binary, User: user, Machine: share,
		Programs: map[int]spec.Postgres{}, Addresses: map[string]string{}, Apart: map[string]bool{},
		// A disk is not divided as memory is: what each server keeps of its log is kept small.
		Instead: map[string]string{"min_wal_size": "80MB", "max_wal_size": "1GB"},
		Bind:    true, Loopback: s.Ground == Loopback, LowPorts: os.Geteuid() != 0,
	}
	for _, c := range o.World.Clusters {
		if err := s.programs(o, c, at.Programs); err != nil {
			return place.Site{}, err
		}
	}
	if slices.ContainsFunc(o.World.Clusters, func(c spec.Cluster) bool { return len(c.REST.Allow) > 0 || c.REST.AllowMembers }) {
		s.note("REST answers whoever has the password, wherever it is; in production only the admin's host, those of group infra and the members may change something")
	}
	for _, d := range o.World.Names {
		if d.File != "" {
			s.note("names are written to no %s: all nodes share this machine's", d.File)
		}
	}
	for _, c := range o.World.Clusters {
		switch {
		case c.VIP == "":
		case s.Ground == Loopback:
			s.note("the virtual address %s of cluster %s is not taken: all nodes share this machine's loopback", c.VIP, c.Name)
		default:
			s.note("the virtual address %s of cluster %s is on eth0 of its leader's network, whatever pg_vip_interface says", c.VIP, c.Name)
		}
	}
	for _, c := range o.World.Clusters {
		if c.Watchdog.On() {
			s.note("no watchdog of cluster %s is opened: one would reset this machine. A socket that plays one is, if patroni_watchdog_device names it", c.Name)
		}
	}
	for _, c := range o.World.Clusters {
		for _, r := range c.Backup.Repositories() {
			if c.Backup.On && r.Shared() && (s.Ground != Loopback || !r.Bucket.Here()) {
				// The same name in the same bucket is somebody's production.
				at.Apart[c.Name] = true
				s.note("cluster %s keeps its backups below %s, not in %s, which is left alone", c.Name, s.Dir, r.Bucket)
			}
		}
	}
	if len(o.World.Remotes) > 0 {
		s.note("servers of pg_exporters are not asked: they are not this playground's")
	}
	s.note("each server counts on %d processors and %d MB of memory, its share of this machine", share.CPU, share.MemoryMB)
	return at, s.addresses(o.World, at.Addresses)
}

func (s *State) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(s.Substituted, text) {
		s.Substituted = append(s.Substituted, text)
	}
}

// programs finds the major that a cluster asks for, or the newest in its place.
func (s *State) programs(o Options, c spec.Cluster, into map[int]spec.Postgres) error {
	if o.Postgres.Bin != "" {
		into[c.Major] = spec.Postgres{Bin: o.Postgres.Bin, Major: o.Postgres.Major}
		return nil
	}
	found, err := postgres.Find(c.Major)
	if err != nil && c.Major != 0 {
		if found, err = postgres.Find(0); err == nil {
			s.note("cluster %s has PostgreSQL %d, because this machine has no PostgreSQL %d", c.Name, found.Major, c.Major)
		}
	}
	if err != nil {
		return err
	}
	into[c.Major] = spec.Postgres{Bin: found.Bin, Major: found.Major}
	return nil
}

// addresses gives every host its address, and refuses two that would be one.
func (s *State) addresses(w spec.World, into map[string]string) error {
	doors := map[string]string{}
	visit := func(host string) error {
		door, err := doorOf(host)
		if err != nil {
			return err
		}
		if other, ok := doors[door.String()]; ok && other != host {
			return &problem.Error{
				Code: "host-address", What: "cannot place the hosts " + other + " and " + host + " on this machine",
				Why: "both would have the address " + door.String(), Do: "give one of them another address in its last three numbers",
			}
		}
		doors[door.String()] = host
		if s.Ground == Loopback {
			into[host] = door.String()
		}
		return nil
	}
	for _, c := range w.Clusters {
		for _, m := range c.Members {
			if err := visit(m.Host); err != nil {
				return err
			}
		}
	}
	for _, o := range w.Others {
		if err := visit(o.Host); err != nil {
			return err
		}
	}
	return nil
}

// available takes out of a server's settings what its programs do not have.
func (s *State) available(n *spec.Node) {
	p := n.Postgres.Parameters
	var have []string
	for name := range strings.SplitSeq(p["shared_preload_libraries"], ",") {
		name = strings.Trim(strings.TrimSpace(name), `'"`)
		if name == "" {
			continue
		}
		if postgres.HasLibrary(n.Postgres.Bin, strings.TrimPrefix(name, "$libdir/")) {
			have = append(have, name)
		} else {
			s.note("the library %s is left out, because PostgreSQL %d of this machine has none in %s", name, n.Postgres.Major, filepath.Dir(n.Postgres.Bin))
		}
	}
	all := strings.Join(have, ", ")
	if _, ok := p["shared_preload_libraries"]; ok && all != p["shared_preload_libraries"] {
		p["shared_preload_libraries"] = all
		for name := range p { // of a library that is not there
			library, _, found := strings.Cut(name, ".")
			if found && !slices.Contains(have, library) {
				delete(p, name)
			}
		}
	}
}
