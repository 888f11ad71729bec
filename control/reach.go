package control

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"howdah/machine/ssh"
	"howdah/problem"
	"howdah/spec"
)

// A Login is how a person gets onto the machines of an inventory.
type Login struct {
	Home      string // with .ssh, where keys and known hosts are
	Agent     string // socket of the agent; "": none
	User      string // whom to log in as where the inventory does not say
	Identity  string // file of a private key beside the usual ones; "": none
	AcceptNew bool   // write down the keys of machines that nobody knows
}

func (l Login) person() ssh.Person {
	at := func(name string) string { return filepath.Join(l.Home, ".ssh", name) }
	p := ssh.Person{
		Agent: l.Agent, Accept: l.AcceptNew,
		Keys:  []string{at("id_ed25519"), at("id_ecdsa"), at("id_rsa")},
		Known: []string{at("known_hosts"), "/etc/ssh/ssh_known_hosts"},
	}
	if l.Identity != "" {
		p.Named = []string{l.Identity}
	}
	return p
}

func (l Login) dial(ctx context.Context, h spec.Host) (*ssh.Machine, error) {
	t := ssh.Target{Host: h.Host, Address: h.Address, Port: h.Port, User: h.User}
	if t.User == "" {
		t.User = l.User
	}
	return ssh.Dial(ctx, t, l.person())
}

// chosen are the hosts of the inventory that are meant; none named: all.
func (inv Inventory) chosen(names []string) ([]spec.Host, error) {
	var hosts []spec.Host
	var known []string
	for _, h := range inv.World.Hosts {
		known = append(known, h.Host)
		if len(names) == 0 || slices.Contains(names, h.Host) {
			hosts = append(hosts, h)
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, &problem.Error{
				Code: "host-unknown", What: "cannot find host " + name + " in " + inv.World.File,
				Why: "the inventory has the hosts " + strings.Join(known, ", "), Do: "name one of these with --host",
			}
		}
	}
	return hosts, nil
}

// together runs do for every one of n at once, and waits for all.
func together(n int, do func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}
