package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"howdah/machine"
	"howdah/machine/install"
	"howdah/node"
	"howdah/node/process"
	"howdah/pki"
	"howdah/problem"
	"howdah/spec"
)

// A Certificate is one by which nodes know each other.
type Certificate struct {
	Of     string    `json:"of"` // the member, or the authority's name
	Path   string    `json:"path"`
	Signed string    `json:"signed_by"`
	Until  time.Time `json:"until"`
}

// Certs are the certificates of this machine.
type Certs struct {
	Stage       string        `json:"stage"` // pki.Stage
	Authorities []Certificate `json:"authorities"`
	Nodes       []Certificate `json:"nodes"`
}

// Certs reads them.
func (h House) Certs() (Certs, error) {
	c := Certs{Authorities: []Certificate{}, Nodes: []Certificate{}}
	at, err := h.stage()
	if err != nil {
		return c, err
	}
	c.Stage = string(at)
	cert, _ := machine.Authority(h.Dir)
	if c.Authorities, err = certificatesIn(cert); err != nil {
		return c, err
	}
	nodes, err := machine.Nodes(h.Dir)
	if err != nil {
		return c, err
	}
	for _, n := range nodes {
		of, err := certificatesIn(n.TLS.Cert)
		if err != nil {
			return c, err
		}
		c.Nodes = append(c.Nodes, of[:1]...)
	}
	return c, nil
}

// stage is how far the authority here is.
func (h House) stage() (pki.Stage, error) {
	dir := machine.AuthorityDir(h.Dir)
	at, err := pki.StageOf(dir)
	if errors.Is(err, os.ErrNotExist) {
		return "", &problem.Error{
			Code: "keys-missing", What: "cannot look at certificates", Why: "there is no authority in " + dir,
			Do: "run it where `howdah keys` or `howdah install` made one, or say with --dir where that is",
		}
	}
	return at, err
}

func certificatesIn(path string) (all []Certificate, err error) {
	found, err := pki.Certificates(path)
	for _, c := range found {
		all = append(all, Certificate{Of: c.Subject.CommonName, Path: path, Signed: c.Issuer.CommonName, Until: c.NotAfter})
	}
	return all, err
}

// RenewCertificates gives the nodes of this machine other certificates and keys: with
// due only those of which they end soon, or whose authority signs no more. A member
// of the store that does not trust yet what it is to trust is started again, one
// after the other and only while all are well. It returns what was done.
func (h House) RenewCertificates(ctx context.Context, due bool) (done []string, err error) {
	nodes, err := machine.Nodes(h.Dir)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		changed, err := machine.Renew(h.Dir, n, !due)
		if err != nil {
			return done, err
		}
		if changed {
			done = append(done, "renewed the certificates of "+n.Member)
		}
	}
	for _, n := range nodes {
		id, deaf := machine.Deaf(n)
		if !deaf {
			continue
		}
		if err := h.again(ctx, n, id); err != nil {
			return done, err
		}
		done = append(done, "started etcd member "+n.Etcd.Member+" again, which trusts what it is to trust now")
	}
	return done, nil
}

// memberWithin is how long a member of the store may take to be well again.
const memberWithin = time.Minute

// again has the node's member of the store start again.
func (h House) again(ctx context.Context, n spec.Node, id process.ID) error {
	ctx, cancel := context.WithTimeout(ctx, memberWithin)
	defer cancel()
	peers, err := pki.Open(n.TLS)
	if err != nil {
		return err
	}
	c := On(n.Cluster, nil, n)
	c.peers, c.door = peers, h.door([]spec.Node{n})
	if err := c.storeWell(ctx, n, process.ID{}); err != nil {
		return err
	}
	if err := id.Signal(unix.SIGTERM); err != nil && !errors.Is(err, process.ErrGone) {
		return fmt.Errorf("etcd member %s: %w", n.Etcd.Member, err)
	}
	return c.storeWell(ctx, n, id)
}

// storeWell waits until all members of the store serve, n's by another process than was.
func (c *Cluster) storeWell(ctx context.Context, n spec.Node, was process.ID) error {
	tick := time.NewTicker(glance / 5)
	defer tick.Stop()
	for {
		why := ""
		for _, m := range c.Etcd(ctx) {
			if !m.Up {
				why = m.Name + " does not serve" + because(errors.New(m.Why))
			}
		}
		if id, runs := node.RoleFile(n, "etcd").Read(); why == "" && (!runs || id == was) {
			why = n.Etcd.Member + " does not run yet"
		}
		if why == "" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return &problem.Error{
				Code: "store-unwell", What: "cannot start etcd member " + n.Etcd.Member + " again", Why: "not all members of the store are well: " + why,
				Do: "see `howdah etcd status`; given again, the same command does what is left",
			}
		}
	}
}

// NextTurn says in words what the next step to another authority is.
func (h House) NextTurn() (string, error) {
	at, err := h.stage()
	switch {
	case err != nil:
		return "", err
	case at == pki.Settled:
		return "have every machine trust a second authority", nil
	case at == pki.Announced:
		return "have the second authority sign every certificate", nil
	}
	return "have nobody trust the first authority any more", nil
}

// Turned says where the way to another authority is after a step.
type Turned struct {
	Stage string   `json:"stage"`
	Done  []string `json:"done"`
}

// Turn takes the next step to another authority on this machine alone.
func (h House) Turn(ctx context.Context) (Turned, error) {
	done, err := h.RenewCertificates(ctx, true) // what the last step left
	if err != nil {
		return Turned{Done: done}, err
	}
	at, err := pki.Turn(machine.AuthorityDir(h.Dir), "howdah")
	if err != nil {
		return Turned{Done: done}, err
	}
	more, err := h.RenewCertificates(ctx, true)
	return Turned{Stage: string(at), Done: append(done, more...)}, err
}

// Turn takes the next step to another authority on all machines of the inventory; if
// one of them is behind, it takes the last one there and none beyond.
func (i *Installer) Turn(ctx context.Context) (Turned, error) {
	t := Turned{Done: []string{}}
	if err := i.Lacking(); err != nil {
		return t, err
	}
	at, err := i.house.stage()
	if err != nil {
		return t, err
	}
	behind := false
	for _, s := range i.hosts {
		for _, step := range s.plan.Steps {
			if !authoritys(step) {
				return t, &problem.Error{
					Code: "install-first", What: "cannot change the authority of " + i.inv.World.File, Why: s.host.Host + " lacks more: " + step.What,
					Do: "`howdah install " + i.inv.World.File + "` first",
				}
			}
			behind = true
		}
	}
	if err := i.authority(ctx, &t); err != nil || behind {
		t.Stage = string(at)
		return t, err
	}
	if at, err = pki.Turn(machine.AuthorityDir(i.house.Dir), "howdah"); err != nil {
		return t, err
	}
	t.Stage = string(at)
	for _, s := range i.hosts {
		if err := i.describe(s); err != nil {
			return t, err
		}
		i.decide(s)
	}
	if err := i.Lacking(); err != nil {
		return t, err
	}
	return t, i.authority(ctx, &t)
}

// authoritys says that a step brings a file of the authority.
func authoritys(step install.Step) bool {
	cert, key := machine.Authority(install.State)
	return step.Put == cert || step.Put == key
}

// authority brings the authority as it is here to all machines, and then has the
// nodes of one machine after the other know each other by it.
func (i *Installer) authority(ctx context.Context, t *Turned) error {
	together(len(i.hosts), func(n int) { i.hosts[n].err = i.steps(ctx, i.hosts[n], false) })
	var wrong []*problem.Error
	for _, s := range i.hosts {
		if p, ok := errors.AsType[*problem.Error](s.err); ok {
			wrong = append(wrong, p)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := gathered("the authority could not be brought to all", wrong); err != nil {
		return err
	}
	for _, s := range i.hosts {
		i.say(s.host.Host, "renewing certificates", -1)
		if _, err := s.on(ctx, "certs", "renew", "--due", "--yes"); err != nil {
			return i.strange(s, err)
		}
		for _, n := range s.nodes {
			if !slices.Contains(t.Done, n.Member) {
				t.Done = append(t.Done, n.Member)
			}
		}
	}
	return nil
}
