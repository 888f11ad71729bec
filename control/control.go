// Package control is what a person may ask of a cluster; every door (command
// line, HTTP, console) goes through it.
//
// It finds clusters in a state directory, looks at them through one
// linearizable read of their store, and changes them only by the keys that
// agents obey: it never touches a server itself. What changes something is a
// plan first, a checked value that says what it would do, and then done. Every
// error is a problem.Error.
package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/dcs/etcd"
	"howdah/latest"
	"howdah/nodefile"
	"howdah/pki"
	"howdah/playground"
	"howdah/problem"
	"howdah/spec"
)

// answerWithin is the time allowed to one request to the store: it covers an
// election of etcd's leader.
const answerWithin = 3 * time.Second

// A House is a state directory: DIR/<cluster>/<member>/node.json.
type House struct {
	Dir string
}

// Clusters are the names of the clusters in the house, sorted.
func (h House) Clusters() []string {
	files, _ := filepath.Glob(filepath.Join(h.Dir, "*", "*", nodefile.Name)) // only a malformed pattern is an error
	var names []string
	for _, f := range files {
		if n, err := nodefile.Load(filepath.Dir(f)); err == nil && n.Alone() {
			continue
		}
		names = append(names, filepath.Base(filepath.Dir(filepath.Dir(f))))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Nodes are the nodes of a cluster that are set up in the house, by member. One
// that was left its member of the store alone is none of it.
func (h House) Nodes(name string) ([]spec.Node, error) {
	files, _ := filepath.Glob(filepath.Join(h.Dir, name, "*", nodefile.Name))
	var nodes []spec.Node
	for _, f := range files {
		n, err := nodefile.Load(filepath.Dir(f))
		if err != nil {
			return nil, err
		}
		if !n.Alone() {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b spec.Node) int { return cmp.Compare(a.Member, b.Member) })
	return nodes, nil
}

// every are all nodes that are set up in the house, also those of no cluster.
func (h House) every() (all []spec.Node, err error) {
	files, _ := filepath.Glob(filepath.Join(h.Dir, "*", "*", nodefile.Name)) // only a malformed pattern is an error
	for _, f := range files {
		n, err := nodefile.Load(filepath.Dir(f))
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// all are the nodes of all clusters that are set up in the house.
func (h House) all() ([]spec.Node, error) {
	var all []spec.Node
	for _, name := range h.Clusters() {
		nodes, err := h.Nodes(name)
		if err != nil {
			return nil, err
		}
		all = append(all, nodes...)
	}
	return all, nil
}

// Name returns the cluster that a person means who names it, or names none.
func (h House) Name(name string) (string, error) {
	all := h.Clusters()
	switch {
	case name != "" && slices.Contains(all, name):
		return name, nil
	case len(all) == 0:
		p := &problem.Error{
			Code: "cluster-none", What: "cannot find a cluster",
			Why: "there is none in " + h.Dir,
			Do:  "start one with `howdah up`, or say with --dir where it is",
		}
		if _, err := playground.Load(h.Dir); problem.Code(err) == "datadir-path" {
			return "", err
		}
		if _, err := os.ReadDir(h.Dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			p.Why, p.Err, p.Do = "the state directory can not be read", err, "run as its owner, or say with --dir where the cluster is"
		}
		return "", p
	case name != "":
		p := &problem.Error{
			Code: "cluster-unknown", What: "cannot find cluster " + name,
			Why: "in " + h.Dir + " there is " + strings.Join(all, ", "),
			Do:  "name one of these, or say with --dir where the cluster is",
		}
		if of, ok := h.memberOf(name); ok {
			p.Why, p.Do = name+" is a member of cluster "+of, "name the cluster, "+of
		}
		return "", p
	case len(all) > 1:
		return "", &problem.Error{
			Code: "cluster-which", What: "cannot tell which cluster is meant",
			Why: "in " + h.Dir + " there are " + strings.Join(all, ", "),
			Do:  "name one of them",
		}
	}
	return all[0], nil
}

// memberOf finds the cluster that has a node of that name in the house.
func (h House) memberOf(member string) (name string, ok bool) {
	files, _ := filepath.Glob(filepath.Join(h.Dir, "*", "*", nodefile.Name))
	for _, f := range files {
		if dir := filepath.Dir(f); filepath.Base(dir) == member {
			return filepath.Base(filepath.Dir(dir)), true
		}
	}
	return "", false
}

// Open returns the cluster called name, or the only one there is. It connects
// when it is first asked.
func (h House) Open(name string) (*Cluster, error) {
	name, err := h.Name(name)
	if err != nil {
		return nil, err
	}
	nodes, err := h.Nodes(name)
	if err != nil {
		return nil, err
	}
	n, through := nodes[0], h.door(nodes)
	peers, err := pki.Open(n.TLS)
	if err != nil {
		return nil, err
	}
	var endpoints []string
	for _, m := range n.Etcd.Members {
		endpoints = append(endpoints, through.url(m.Client))
	}
	store, err := etcd.Open(etcd.Options{Endpoints: endpoints, Base: n.Base(), TLS: peers})
	if err != nil {
		return nil, &problem.Error{
			Code: "store-unreachable", What: "cannot reach the store of cluster " + name,
			Do: "check the etcd members in " + filepath.Join(n.Paths.Dir, nodefile.Name), Err: err,
		}
	}
	c := On(name, store, nodes...)
	_, err = playground.Load(h.Dir)
	c.Dir, c.door, c.peers, c.local = filepath.Join(h.Dir, name), through, peers, err == nil
	c.metrics = h.storeOf(nodes, through)
	files, _ := filepath.Glob(filepath.Join(h.Dir, "*", "*", nodefile.Name))
	for _, f := range files { // what can not be read is none of this cluster's
		if o, err := nodefile.Load(filepath.Dir(f)); err == nil && o.Cluster != name && len(c.front(o).Services) > 0 {
			c.beside = append(c.beside, o)
		}
	}
	return c, nil
}

// A Cluster is one cluster, as a person reaches it.
type Cluster struct {
	Name  string
	Dir   string      // of its nodes on this machine
	Nodes []spec.Node // those on this machine, by member

	beside  []spec.Node // of other clusters on this machine, whose gateways have its services
	store   dcs.Store
	door    door
	peers   *pki.Peers    // how the cluster's machines know each other; nil: they do not
	local   bool          // every node is on this machine: a playground
	metrics MetricStore   // the store of metrics
	jobs    []spec.Logged // where the jobs of members are asked, of a cluster that is observed
	by      string        // who asks; "": this process's user
	now     func() time.Time
}

// On returns the cluster that keeps its keys in store.
func On(name string, store dcs.Store, nodes ...spec.Node) *Cluster {
	return &Cluster{Name: name, Nodes: nodes, store: store, door: direct, now: time.Now}
}

// transport is how members are asked, by the certificate of this machine.
func (c *Cluster) transport() *http.Transport {
	t := &http.Transport{DisableKeepAlives: true}
	if c.peers != nil {
		t.DialTLSContext = c.peers.Dial(&net.Dialer{})
	}
	return t
}

// Close gives up the connections.
func (c *Cluster) Close() error { return c.store.Close() }

// State reads everything the store says, once and linearizably.
func (c *Cluster) State(ctx context.Context) (cluster.State, error) {
	r, err := c.do(ctx, dcs.Request{Kind: dcs.Read})
	if err != nil {
		return cluster.State{}, c.unreachable(ctx, "read", err)
	}
	return stateOf(r.Snapshot), nil
}

func stateOf(s dcs.Snapshot) cluster.State { return cluster.Parse(s.Revision, s.Keys) }

// do asks the store, and asks again what was certainly not applied: while etcd
// elects a leader its members answer at once that they can not.
func (c *Cluster) do(ctx context.Context, r dcs.Request) (dcs.Response, error) {
	const pause = 100 * time.Millisecond
	if err := c.stopped(ctx); err != nil {
		return dcs.Response{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	for {
		resp, err := c.store.Do(ctx, r)
		if err == nil || r.Kind != dcs.Read && !errors.Is(err, dcs.ErrUnavailable) {
			return resp, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return resp, err
		}
	}
}

// commit changes the store if every condition holds; ok is false if one does not.
func (c *Cluster) commit(ctx context.Context, ops []dcs.Op, conds ...dcs.Cond) (rev int64, ok bool, err error) {
	r, err := c.do(ctx, dcs.Request{Kind: dcs.Commit, If: conds, Ops: ops})
	if err != nil {
		return 0, false, c.unreachable(ctx, "change", err)
	}
	return r.Revision, r.OK, nil
}

// unless returns the condition that key is as it was seen.
func unless(key string, mod int64) dcs.Cond {
	if mod == 0 {
		return dcs.Absent(key)
	}
	return dcs.ModIs(key, mod)
}

// stopped says at once of a playground's cluster that nothing of it runs,
// instead of waiting for answers that nobody can give.
func (c *Cluster) stopped(ctx context.Context) error {
	if !c.local || !playground.Quiet(c.Nodes) {
		return nil
	}
	if stranger := c.stranger(ctx, "reach"); stranger != nil {
		return stranger
	}
	return &problem.Error{
		Code: "cluster-stopped", What: "cluster " + c.Name + " is stopped", Why: "no process of its nodes runs on this machine",
		Do: "start it with `howdah up`; its data is as it was left",
	}
}

func (c *Cluster) unreachable(ctx context.Context, verb string, err error) error {
	if problem.Code(err) != "" {
		return err
	}
	if stranger := c.stranger(ctx, verb); stranger != nil {
		return stranger
	}
	p := &problem.Error{
		Code: "store-unreachable", What: fmt.Sprintf("cannot %s cluster %s", verb, c.Name),
		Why: "a majority of its etcd members does not answer",
		Do:  "if it is stopped, start it with `howdah up`; else look at etcd.log below " + cmp.Or(c.Dir, "the node's directory"),
		Err: err,
	}
	var down []string
	for _, n := range c.Nodes {
		if c.local && playground.Stopped(n) {
			down = append(down, n.Member)
		}
	}
	if len(down) > 0 {
		p.Why += "; stopped: " + strings.Join(down, ", ")
		p.Do = "`howdah fault start-node` starts what was stopped, `howdah up` everything"
	}
	if said := c.standing(ctx); said != "" {
		p.Why += "; " + said
	}
	if verb == "change" && !errors.Is(err, dcs.ErrUnavailable) {
		p.Why = "etcd did not answer in time, so it is unknown whether the request was taken"
		p.Do = "look at `howdah status` before asking again"
	}
	return p
}

// watch hands every state of the cluster to until, from the present one on,
// and at least every so often without a change, until it returns true.
func (c *Cluster) watch(ctx context.Context, until func(cluster.State) bool) error {
	const look = 100 * time.Millisecond
	ctx, cancel := context.WithCancel(ctx)
	var into latest.Value[dcs.Snapshot]
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.store.Watch(ctx, &into, func(error) {}) // it begins again by itself
	}()
	defer func() {
		cancel()
		<-ended
	}()
	tick := time.NewTicker(look)
	defer tick.Stop()
	var seen uint64
	var state cluster.State
	for {
		snap, version := into.Get()
		if version != seen {
			seen, state = version, stateOf(snap)
		}
		if version > 0 && until(state) {
			return nil
		}
		select {
		case <-into.Changed(seen):
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// node returns the node of member on this machine.
func (c *Cluster) node(member string) (spec.Node, bool) {
	i := slices.IndexFunc(c.Nodes, func(n spec.Node) bool { return n.Member == member })
	if i < 0 {
		return spec.Node{}, false
	}
	return c.Nodes[i], true
}

// unknownMember says that nobody is called so.
func (c *Cluster) unknownMember(name string, s cluster.State) error {
	return &problem.Error{
		Code: "member-unknown", What: "cannot find member " + name + " of cluster " + c.Name,
		Why: "its members are " + strings.Join(s.Names(), ", "),
		Do:  "name one of these",
	}
}

// person says who asks, for the record.
func person() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, _ := os.Hostname()
	return name + "@" + host
}
