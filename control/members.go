package control

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"howdah/dcs/embed"
	"howdah/node"
	"howdah/node/process"
	"howdah/nodefile"
	"howdah/playground"
	"howdah/problem"
	"howdah/spec"
)

// joinWithin is the time allowed to a member to stop, start, and vote.
const joinWithin = time.Minute

// A StoreChange is a checked change of who carries the store, or of what is in it,
// that was not begun yet.
type StoreChange struct {
	Verb   string   `json:"verb"`
	Member string   `json:"member"`         // whom it is about; of recover and restore, who begins the new store
	Steps  []string `json:"steps"`          // none: there is nothing to do
	Then   []string `json:"then,omitempty"` // what is left to a person, elsewhere

	steps []func(context.Context) error
}

// Do takes the steps, telling each before it is begun. A step that was taken already
// does no harm when it is taken again.
func (s *StoreChange) Do(ctx context.Context, say func(string)) error {
	for i, step := range s.steps {
		say(s.Steps[i])
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *StoreChange) step(do func(context.Context) error, format string, args ...any) {
	s.Steps, s.steps = append(s.Steps, fmt.Sprintf(format, args...)), append(s.steps, do)
}

// A storeMember is one as the store itself lists it.
type storeMember struct {
	ID      string   `json:"ID"`
	Name    string   `json:"name"` // "": it was added, and never started
	Peers   []string `json:"peerURLs"`
	Learner bool     `json:"isLearner"`
}

// storeMembers are the members as a majority of the store knows them.
func (c *Cluster) storeMembers(ctx context.Context) ([]storeMember, error) {
	var answer struct {
		Members []storeMember `json:"members"`
	}
	err := c.askStore(ctx, "/v3/cluster/member/list", map[string]any{"linearizable": true}, &answer)
	return answer.Members, err
}

// askStore asks one member after another until one answers.
func (c *Cluster) askStore(ctx context.Context, path string, what, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 2*answerWithin)
	defer cancel()
	client := &http.Client{Transport: c.transport()}
	text, err := json.Marshal(what)
	if err != nil {
		return err
	}
	var failed []error
	for _, m := range c.Nodes[0].Etcd.Members {
		one, done := context.WithTimeout(ctx, answerWithin)
		err := post(one, client, c.door.url(m.Client)+path, text, into)
		done()
		if err == nil {
			return nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", m.Name, err))
	}
	return c.unreachable(ctx, "change", errors.Join(failed...))
}

// storeSeen is what a change of the store begins with.
type storeSeen struct {
	members []storeMember
	up      []string // members that serve
}

func (c *Cluster) seeStore(ctx context.Context) (storeSeen, error) {
	if err := c.stopped(ctx); err != nil {
		return storeSeen{}, err
	}
	var s storeSeen
	var err error
	if s.members, err = c.storeMembers(ctx); err != nil {
		return s, err
	}
	for _, m := range c.Etcd(ctx) {
		if m.Up {
			s.up = append(s.up, m.Name)
		}
	}
	return s, nil
}

// find is the member that is called so, or that has its address.
func (s storeSeen) find(name string, m spec.EtcdMember) (storeMember, bool) {
	i := slices.IndexFunc(s.members, func(have storeMember) bool { return have.Name == name || slices.Contains(have.Peers, m.Peer) })
	if i < 0 {
		return storeMember{}, false
	}
	return s.members[i], true
}

// spares refuses to take a member away whose absence leaves no majority, now or
// afterwards.
func (s storeSeen) spares(what, name string, after int) error {
	others := len(slices.DeleteFunc(slices.Clone(s.up), func(up string) bool { return up == name }))
	if others >= len(s.members)/2+1 && others >= after/2+1 {
		return nil
	}
	return &problem.Error{
		Code: "etcd-quorum", What: what,
		Why: fmt.Sprintf("without %s only %d of the other members of etcd are up, too few for a majority", name, others),
		Do:  "start the others first (`howdah etcd status`), or add one; if they are gone for ever, `howdah etcd recover`",
	}
}

// PlanEtcdAdd checks that a node is to carry a member of the store, too.
func (c *Cluster) PlanEtcdAdd(ctx context.Context, name string) (*StoreChange, error) {
	what := "cannot add " + name + " to the store of cluster " + c.Name
	n, m, err := c.carrier(what, name)
	if err != nil {
		return nil, err
	}
	seen, err := c.seeStore(ctx)
	if err != nil {
		return nil, err
	}
	ch := &StoreChange{Verb: "add", Member: name, Steps: []string{}}
	if have, ok := seen.find(name, m); ok && have.Name != "" && !have.Learner && n.Etcd.Member != "" {
		return ch, nil
	}
	c.planAdd(ch, n, m)
	return ch, nil
}

// carrier is the node of that name on this machine, and the member that it carries
// or would.
func (c *Cluster) carrier(what, name string) (spec.Node, spec.EtcdMember, error) {
	n, ok := c.node(name)
	if !ok {
		return n, spec.EtcdMember{}, &problem.Error{
			Code: "etcd-not-here", What: what, Why: "its node is not on this machine",
			Do: "run this on the machine of " + name + ", where its node is set up",
		}
	}
	if m, ok := n.Etcd.Self(); ok {
		return n, m, nil
	}
	if !c.local {
		return n, spec.EtcdMember{}, &problem.Error{
			Code: "etcd-not-declared", What: what, Why: "its node carries no member of the store, by its inventory",
			Do: "write its host into the group etcd, set the node up again from there (`howdah install`), and run this again",
		}
	}
	like := n.Etcd.Members[0]
	i := slices.IndexFunc(c.Nodes, func(o spec.Node) bool { return o.Member == like.Name })
	if i < 0 {
		return n, spec.EtcdMember{}, &problem.Error{
			Code: "etcd-not-here", What: what, Why: like.Name + ", whose ports it would have, is no node of this playground",
			Do: "give the store to that node in the inventory, and start a new playground",
		}
	}
	at := func(url string) string {
		return strings.Replace(url, "//"+c.Nodes[i].Address+":", "//"+n.Address+":", 1)
	}
	return n, spec.EtcdMember{Name: name, Client: at(like.Client), Peer: at(like.Peer)}, nil
}

func (c *Cluster) planAdd(ch *StoreChange, n spec.Node, m spec.EtcdMember) {
	members := n.Etcd.Members
	if !slices.ContainsFunc(members, func(o spec.EtcdMember) bool { return o.Name == m.Name }) {
		members = append(slices.Clone(members), m)
	}
	ch.step(func(ctx context.Context) error {
		if n.Etcd.Member == "" {
			n.Etcd.Member, n.Etcd.Data = n.Member, c.etcdDir(n)
		}
		n.Etcd.Members = members
		account, err := node.Account(n.User)
		if err != nil {
			return err
		}
		if err := embed.Rejoin(n.Etcd.Data, account.UID, account.GID); err != nil {
			return err
		}
		if err := c.describe(n); err != nil {
			return err
		}
		if c.local {
			return c.readAgain(ctx, n)
		}
		return restartEtcd(ctx, n)
	}, "start etcd on %s: it joins as a member that learns, and votes once it has what the others have", n.Member)
	ch.step(func(ctx context.Context) error { return c.awaitVote(ctx, n.Member, "") }, "wait until %s votes", n.Member)
	c.planTell(ch, n.Member, members)
}

// planTell has the other nodes of this machine know of the members. What runs there
// reads it when it starts the next time: until then it asks those that it knows.
func (c *Cluster) planTell(ch *StoreChange, but string, members []spec.EtcdMember) {
	if !c.local {
		ch.Then = append(ch.Then, "the inventory's group etcd has to name the same hosts; set the other nodes up from it (`howdah install`)")
		return
	}
	ch.step(func(context.Context) error {
		for i, n := range c.Nodes {
			c.Nodes[i].Etcd.Members = members
			if n.Member == but {
				continue
			}
			n.Etcd.Members = members
			if err := c.describe(n); err != nil {
				return err
			}
		}
		return nil
	}, "write the members into the descriptions of the nodes")
	ch.Then = append(ch.Then, "an inventory that this playground was made from has to name the same hosts in its group etcd before `howdah up` is given it again")
}

func (c *Cluster) etcdDir(n spec.Node) string { return filepath.Join(n.Paths.Dir, "etcd") }

// describe writes the description of a node of this machine.
func (c *Cluster) describe(n spec.Node) error {
	account, err := node.Account(n.User)
	if err != nil {
		return err
	}
	return nodefile.Write(n, account.UID, account.GID)
}

// readAgain has the node's supervisor and agent, and whoever keeps the playground,
// know of a description that has changed. PostgreSQL and clients do not notice.
func (c *Cluster) readAgain(ctx context.Context, n spec.Node) error {
	s, err := playground.Load(filepath.Dir(c.Dir))
	if err != nil {
		return err
	}
	return s.Reread(ctx, n)
}

// restartEtcd ends a node's etcd, which its supervisor starts again.
func restartEtcd(ctx context.Context, n spec.Node) error {
	id, ok := node.RoleFile(n, "etcd").Read()
	if !ok {
		return nil // it does not run: it reads what was asked for when it starts
	}
	if err := id.Signal(unix.SIGTERM); err != nil && id.Alive() {
		return fmt.Errorf("stop etcd of %s: %w", n.Member, err)
	}
	return id.Wait(ctx)
}

// awaitVote waits until the member votes, and is another one than was (its number
// on the list; "" is none).
func (c *Cluster) awaitVote(ctx context.Context, name, was string) error {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	var last error
	for {
		members, err := c.storeMembers(ctx)
		i := slices.IndexFunc(members, func(m storeMember) bool { return m.Name == name })
		switch {
		case err == nil && i >= 0 && !members[i].Learner && members[i].ID != was:
			return nil
		case err != nil:
			last = err
		case i >= 0 && members[i].Learner:
			last = errors.New("it learns still")
		default:
			last = errors.New("it has not joined")
		}
		timer := time.NewTimer(200 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return &problem.Error{
				Code: "etcd-joins-not", What: name + " does not vote in the store of cluster " + c.Name,
				Why: "it did not come to that within " + joinWithin.String(), Do: "see etcd.log of its node; the same command goes on with it", Err: last,
			}
		}
	}
}

// PlanEtcdRemove checks that a member leaves the store.
func (c *Cluster) PlanEtcdRemove(ctx context.Context, name string) (*StoreChange, error) {
	what := "cannot remove " + name + " from the store of cluster " + c.Name
	seen, err := c.seeStore(ctx)
	if err != nil {
		return nil, err
	}
	ch := &StoreChange{Verb: "remove", Member: name, Steps: []string{}}
	m, declared := c.declared(name)
	have, ok := seen.find(name, m)
	if !ok && !declared {
		if _, known := c.node(name); known {
			return ch, nil
		}
		return nil, &problem.Error{
			Code: "etcd-member-none", What: what, Why: "the members of etcd are " + strings.Join(seen.names(), ", "), Do: "name one of these",
		}
	}
	if ok {
		if err := seen.spares(what, name, len(seen.members)-1); err != nil {
			return nil, err
		}
	}
	c.planRemove(ch, name, have)
	return ch, nil
}

func (s storeSeen) names() (names []string) {
	for _, m := range s.members {
		names = append(names, cmp.Or(m.Name, "one that never started"))
	}
	return names
}

// declared is a member as the nodes of this machine know it.
func (c *Cluster) declared(name string) (spec.EtcdMember, bool) {
	for _, m := range c.Nodes[0].Etcd.Members {
		if m.Name == name {
			return m, true
		}
	}
	return spec.EtcdMember{}, false
}

func (c *Cluster) planRemove(ch *StoreChange, name string, have storeMember) {
	left := slices.DeleteFunc(slices.Clone(c.Nodes[0].Etcd.Members), func(m spec.EtcdMember) bool { return m.Name == name })
	if have.ID != "" {
		ch.step(func(ctx context.Context) error { return c.dismiss(ctx, have.ID) }, "take %s off the list of members, by a majority of the others", name)
	}
	if n, here := c.node(name); here && c.local {
		ch.step(func(ctx context.Context) error {
			data := n.Etcd.Data
			n.Etcd.Member, n.Etcd.Data, n.Etcd.Members = "", "", left
			if err := c.describe(n); err != nil {
				return err
			}
			if err := c.readAgain(ctx, n); err != nil {
				return err
			}
			if id, runs := node.RoleFile(n, "etcd").Read(); runs && id.Signal(unix.SIGTERM) == nil {
				if err := id.Wait(ctx); err != nil {
					return err
				}
			}
			if err := os.Rename(data, data+".kept-"+time.Now().UTC().Format(keptStamp)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			return nil
		}, "stop etcd on %s, and keep its data aside", name)
	} else {
		ch.Then = append(ch.Then, "take the host of "+name+" out of the inventory's group etcd, and set its node up from there: until then its etcd starts again and again, and is refused")
	}
	c.planTell(ch, name, left)
}

// dismiss takes a member off the store's list. Who is off it already is no error.
func (c *Cluster) dismiss(ctx context.Context, id string) error {
	var none struct{}
	err := c.askStore(ctx, "/v3/cluster/member/remove", map[string]any{"ID": id}, &none)
	if err == nil {
		return nil
	}
	members, again := c.storeMembers(ctx)
	if again == nil && !slices.ContainsFunc(members, func(m storeMember) bool { return m.ID == id }) {
		return nil
	}
	return err
}

// PlanEtcdReplace checks that a member's place is taken: by the same node, which
// joins anew with nothing, or by another one.
func (c *Cluster) PlanEtcdReplace(ctx context.Context, name, with string) (*StoreChange, error) {
	what := "cannot replace " + name + " in the store of cluster " + c.Name
	seen, err := c.seeStore(ctx)
	if err != nil {
		return nil, err
	}
	ch := &StoreChange{Verb: "replace", Member: name, Steps: []string{}}
	m, declared := c.declared(name)
	have, ok := seen.find(name, m)
	if with == "" || with == name {
		n, _, err := c.carrier(what, name)
		if err != nil {
			return nil, err
		}
		if !declared || n.Etcd.Member == "" {
			return nil, &problem.Error{
				Code: "etcd-member-none", What: what, Why: "it carries no member of the store",
				Do: "add it: `howdah etcd add " + c.Name + " " + name + "`",
			}
		}
		if ok {
			if err := seen.spares(what, name, len(seen.members)-1); err != nil {
				return nil, err
			}
		}
		c.planRejoin(ch, n)
		ch.step(func(ctx context.Context) error { return c.awaitVote(ctx, name, have.ID) }, "wait until %s votes", name)
		return ch, nil
	}
	n, added, err := c.carrier(what, with)
	if err != nil {
		return nil, err
	}
	if !ok && !declared {
		return nil, &problem.Error{
			Code: "etcd-member-none", What: what, Why: "the members of etcd are " + strings.Join(seen.names(), ", "), Do: "name one of these",
		}
	}
	if now, there := seen.find(with, added); !there || now.Name == "" || now.Learner {
		c.planAdd(ch, n, added)
	}
	if ok {
		if err := seen.spares(what, name, len(seen.members)); err != nil {
			return nil, err
		}
	}
	ch.step(func(ctx context.Context) error {
		// What is left of it is decided by what the store says then.
		next, err := c.PlanEtcdRemove(ctx, name)
		if err != nil {
			return err
		}
		ch.Then = append(ch.Then, next.Then...)
		return next.Do(ctx, func(string) {})
	}, "remove %s", name)
	return ch, nil
}

// planRejoin has a member put its data aside and join as a new one.
func (c *Cluster) planRejoin(ch *StoreChange, n spec.Node) {
	ch.step(func(ctx context.Context) error {
		account, err := node.Account(n.User)
		if err != nil {
			return err
		}
		if err := embed.Rejoin(n.Etcd.Data, account.UID, account.GID); err != nil {
			return err
		}
		return restartEtcd(ctx, n)
	}, "start etcd on %s with its data put aside: it joins as a new member", n.Member)
}

// PlanEtcdRecover checks that the store begins anew with what one member has, because
// a majority of its members is gone for ever.
func (c *Cluster) PlanEtcdRecover(ctx context.Context, from string) (*StoreChange, error) {
	what := "cannot recover the store of cluster " + c.Name
	all := c.Etcd(ctx)
	if slices.ContainsFunc(all, func(m EtcdMember) bool { return m.Up }) {
		if _, err := c.storeMembers(ctx); err == nil {
			return &StoreChange{Verb: "recover", Member: from, Steps: []string{}}, nil
		}
	}
	founder := from
	if founder == "" {
		var best EtcdMember
		for _, m := range all {
			if _, here := c.node(m.Name); here && (m.Index > best.Index || m.Index == best.Index && m.Term > best.Term) {
				best = m
			}
		}
		founder = best.Name
	}
	if founder == "" {
		// None answers. Those that have data may be told apart by a person only.
		var has []string
		for _, n := range c.Nodes {
			if _, err := os.Stat(n.Etcd.Data + "/member/wal"); n.Etcd.Member != "" && err == nil {
				has = append(has, n.Member)
			}
		}
		switch len(has) {
		case 1:
			founder = has[0]
		case 0:
			i := slices.IndexFunc(c.Nodes, func(n spec.Node) bool { return n.Etcd.Member != "" })
			if i < 0 {
				return nil, &problem.Error{
					Code: "etcd-not-here", What: what, Why: "no node on this machine carries a member of it", Do: "run this where one is",
				}
			}
			founder = c.Nodes[i].Member
		default:
			return nil, &problem.Error{
				Code: "etcd-recover-which", What: what, Why: "none of its members answers, and " + strings.Join(has, ", ") + " have data: which is the newest can not be seen",
				Do: "let their etcd start (`howdah etcd status` then shows their index), or name one with --from",
			}
		}
	}
	return c.planFounding("recover", what, founder, "", all)
}

// PlanEtcdRestore checks that the store begins anew with a snapshot.
func (c *Cluster) PlanEtcdRestore(ctx context.Context, file, on string) (*StoreChange, error) {
	what := "cannot restore the store of cluster " + c.Name + " from " + file
	if err := wholeSnapshot(file); err != nil {
		return nil, &problem.Error{
			Code: "etcd-snapshot-unusable", What: what, Why: "it is no snapshot of etcd that is whole", Do: "give a file that `howdah etcd snapshot` wrote", Err: err,
		}
	}
	if on == "" {
		for _, n := range c.Nodes {
			if n.Etcd.Member != "" {
				on = cmp.Or(on, n.Member)
			}
		}
	}
	return c.planFounding("restore", what, on, file, c.Etcd(ctx))
}

// wholeSnapshot says what is wrong with a file that is to be a snapshot, which ends
// with the SHA-256 of what stands before.
func wholeSnapshot(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	n := len(b) - sha256.Size
	if n <= 0 || n%512 != 0 {
		return errors.New("its length is not that of a snapshot")
	}
	if sum := sha256.Sum256(b[:n]); !bytes.Equal(sum[:], b[n:]) {
		return errors.New("its checksum is wrong")
	}
	return nil
}

// planFounding has one member begin a store of its own, and the others join it. The
// others go first: two stores of one cluster never answer at once.
func (c *Cluster) planFounding(verb, what, founder, file string, all []EtcdMember) (*StoreChange, error) {
	n, _, err := c.carrier(what, founder)
	if err != nil {
		return nil, err
	}
	if n.Etcd.Member == "" {
		return nil, &problem.Error{Code: "etcd-member-none", What: what, Why: founder + " carries no member of the store", Do: "name one that does"}
	}
	ch := &StoreChange{Verb: verb, Member: founder, Steps: []string{}}
	var others []spec.Node
	for _, m := range n.Etcd.Members {
		if m.Name == founder {
			continue
		}
		o, here := c.node(m.Name)
		if here {
			others = append(others, o)
			continue
		}
		if i := slices.IndexFunc(all, func(e EtcdMember) bool { return e.Name == m.Name }); i >= 0 && (all[i].Up || all[i].Index > 0) {
			return nil, &problem.Error{
				Code: "etcd-others-run", What: what, Why: m.Name + ", whose node is not on this machine, still serves the store that is to be replaced",
				Do: "stop etcd there first, or let it wait for the new store: `howdah etcd replace " + c.Name + " " + m.Name + "` on its machine, which puts its data aside",
			}
		}
		ch.Then = append(ch.Then, "on the machine of "+m.Name+": `howdah etcd replace "+c.Name+" "+m.Name+"`, which lets it join")
	}
	with, names := "what it has", []string{}
	if file != "" {
		with = "what " + file + " has"
	}
	for _, o := range others {
		names = append(names, o.Member)
	}
	ch.step(func(ctx context.Context) error {
		for _, o := range others {
			account, err := node.Account(o.User)
			if err == nil {
				err = embed.Rejoin(o.Etcd.Data, account.UID, account.GID)
			}
			if err != nil {
				return err
			}
		}
		account, err := node.Account(n.User)
		if err != nil {
			return err
		}
		f := embed.Founding{}
		if file != "" {
			f.From = n.Etcd.Data + ".snapshot"
			b, err := os.ReadFile(file)
			if err == nil {
				err = nodefile.WriteFile(f.From, b, 0o600, account.UID, account.GID)
			}
			if err != nil {
				return err
			}
		}
		if err := f.Ask(n.Etcd.Data, account.UID, account.GID); err != nil {
			return err
		}
		// The others all at once, and without a last word: who came back while the rest of
		// the old store was still a majority would join that one. The founder has its own.
		var ended []process.ID
		for _, o := range others {
			if id, runs := node.RoleFile(o, "etcd").Read(); runs && id.Signal(unix.SIGKILL) == nil {
				ended = append(ended, id)
			}
		}
		for _, id := range ended {
			if err := id.Wait(ctx); err != nil {
				return err
			}
		}
		return restartEtcd(ctx, n)
	}, "%s", strings.Join(append(founding(names), "start etcd on "+founder+" as the only member, with "+with+" but for who leads, which those who live tell"), "; "))
	ch.step(func(ctx context.Context) error { return c.awaitVote(ctx, founder, "") }, "wait until %s serves", founder)
	for _, o := range others {
		if playground.Stopped(o) {
			ch.Then = append(ch.Then, o.Member+" is stopped: it joins when it is started")
			continue
		}
		ch.step(func(ctx context.Context) error { return c.awaitVote(ctx, o.Member, "") }, "wait until %s has joined and votes", o.Member)
	}
	ch.step(c.awaitRebuilt, "wait until the leader of the cluster has put back what the store has to know")
	return ch, nil
}

// founding is what is told of those who join a store that begins anew.
func founding(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	return []string{"have etcd on " + strings.Join(names, " and ") + " put its data aside and wait to join"}
}

// awaitRebuilt waits until somebody leads the cluster.
func (c *Cluster) awaitRebuilt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	for {
		if s, err := c.State(ctx); err == nil && s.LeaderName() != "" {
			return nil
		}
		timer := time.NewTimer(200 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return &problem.Error{
				Code: "etcd-leader-none", What: "the store of cluster " + c.Name + " is there again, and nobody leads",
				Why: "no member that lives is certain that nobody was elected after it",
				Do:  "`howdah why " + c.Name + "` says whom they await; start those, or name who goes on: `howdah failover " + c.Name + " --to MEMBER` (the one with the latest timeline and position in `howdah list`)",
			}
		}
	}
}
