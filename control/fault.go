package control

import (
	"context"
	"slices"
	"strings"

	"howdah/playground"
	"howdah/problem"
	"howdah/spec"
)

// Faults that can be tried, in the order of help.
var Faults = []struct{ Name, Does string }{
	{"kill-postgres", "kill the postmaster with SIGKILL, as the kernel does when memory ends"},
	{"kill-agent", "kill the agent with SIGKILL"},
	{"kill-node", "cut the power of a node: every process dies at once, the network with them"},
	{"stop-node", "stop a node in order: PostgreSQL is handed over and shut down"},
	{"start-node", "start a node that was stopped or killed"},
	{"freeze", "stop a node, or one role of it, where it stands"},
	{"thaw", "let go on what is frozen"},
	{"partition", "cut the network of a node, both ways"},
	{"one-way", "cut the network of a node in one direction"},
	{"slow", "make the network of a node slow or lossy"},
	{"heal", "take all faults off the network"},
}

// Slow is what a bad network does to every frame.
type Slow = playground.Slow

// FaultOptions are what faults need to know beside the members.
type FaultOptions struct {
	Role     string   // freeze, thaw: "" is the whole node, or all that is frozen
	To, From []string // partition (From), one-way: the peers; none is all
	Slow     Slow
}

// Names that stand for peers.
const (
	AllPeers  = playground.All
	DoorPeers = playground.Doors
)

// A Fault is chosen and checked, but nothing broke yet.
type Fault struct {
	Name    string
	Members []string
	Primary string // one of Members leads; "": none does, or it was not asked
	FaultOptions

	play  playground.State
	nodes []spec.Node
}

// Nothing reports that there is nothing to take away: no node is frozen, no
// network is ill.
func (f *Fault) Nothing() bool { return len(f.Members) == 0 }

// playing is a cluster of the playground, by its name or the only one.
func (h House) playing(clusterName string) (name string, play playground.State, nodes []spec.Node, err error) {
	if name, err = h.Name(clusterName); err != nil {
		return "", play, nil, err
	}
	if play, err = playground.Load(h.Dir); err != nil {
		return "", play, nil, err
	}
	nodes, err = h.Nodes(name)
	return name, play, nodes, err
}

// PlanFault finds the members to hit: the word "primary" is the leader. Without
// members it is the leader; for start-node every node that is stopped, for thaw
// and heal every one that is frozen or ill.
func (h House) PlanFault(ctx context.Context, clusterName, fault string, o FaultOptions, members ...string) (*Fault, error) {
	name, play, nodes, err := h.playing(clusterName)
	if err != nil {
		return nil, err
	}
	f := &Fault{Name: fault, FaultOptions: o, play: play}
	if len(members) == 0 {
		switch fault {
		case "start-node":
			for _, n := range nodes {
				if playground.Stopped(n) {
					members = append(members, n.Member)
				}
			}
			if len(members) == 0 {
				return nil, &problem.Error{
					Code: "fault-nothing", What: "cannot start a node of cluster " + name,
					Why: "none is stopped", Do: "name one if you mean another",
				}
			}
		case "thaw", "heal":
			laid, err := play.Faults()
			if err != nil {
				return nil, err
			}
			for _, n := range nodes {
				ill := laid.Members[n.Member]
				if fault == "thaw" && len(ill.Frozen) > 0 || fault == "heal" && ill.Network() {
					members = append(members, n.Member)
				}
			}
			if len(members) == 0 {
				return f, nil
			}
		default:
			members = []string{Primary}
		}
	}
	if i := slices.Index(members, Primary); i >= 0 {
		if members[i], err = h.leader(ctx, name, fault); err != nil {
			return nil, err
		}
		f.Primary = members[i]
	}
	for _, m := range members {
		n, err := play.Find(m)
		if err != nil {
			return nil, err
		}
		f.Members, f.nodes = append(f.Members, m), append(f.nodes, n)
	}
	return f, f.check()
}

// check refuses what can not be done before anything is.
func (f *Fault) check() error {
	if f.Name == "freeze" && f.Role == "" {
		f.Role = playground.WholeNode
	}
	switch f.Name {
	case "partition", "one-way", "slow":
		if err := f.play.Cuttable(f.String()); err != nil {
			return err
		}
		for _, p := range slices.Concat(f.To, f.From) {
			if _, err := f.play.Find(p); err != nil && p != AllPeers && p != DoorPeers {
				return err
			}
		}
	}
	return nil
}

func (h House) leader(ctx context.Context, name, fault string) (string, error) {
	c, err := h.Open(name)
	if err != nil {
		return "", err
	}
	defer c.Close()
	s, err := c.State(ctx)
	if err != nil {
		return "", err
	}
	if s.LeaderName() == "" {
		return "", &problem.Error{
			Code: "leader-none", What: "cannot " + strings.ReplaceAll(fault, "-", " ") + " of the primary",
			Why: "cluster " + name + " has no leader now", Do: "name a member, or wait: `howdah status " + name + "`",
		}
	}
	return s.LeaderName(), nil
}

// String says what Do would do.
func (f *Fault) String() string {
	names := slices.Clone(f.Members)
	for i, m := range names {
		if m == f.Primary {
			names[i] += " (the primary)"
		}
	}
	who := strings.Join(names, ", ")
	role := f.Role
	switch role {
	case playground.WholeNode, "":
		role = ""
	case "postgres":
		role = "PostgreSQL of "
	default:
		role = "the " + role + " of "
	}
	switch f.Name {
	case "kill-postgres":
		return "kill the postmaster of " + who
	case "kill-agent":
		return "kill the agent of " + who
	case "kill-node":
		return "cut the power of " + who
	case "stop-node":
		return "stop " + who
	case "start-node":
		return "start " + who
	case "freeze", "thaw":
		return f.Name + " " + role + who
	case "partition":
		return "cut " + who + " off from " + peers(f.From)
	case "one-way":
		var ways []string
		if len(f.To) > 0 {
			ways = append(ways, "what "+who+" sends to "+peers(f.To))
		}
		if len(f.From) > 0 {
			ways = append(ways, "what "+peers(f.From)+" sends to "+who)
		}
		return "lose " + strings.Join(ways, " and ")
	case "slow":
		return "slow the network of " + who + " (" + f.Slow.String() + ")"
	case "heal":
		return "heal the network of " + who
	}
	return f.Name + " " + who
}

func peers(names []string) string {
	if len(names) == 0 || slices.Contains(names, AllPeers) {
		return "every other node and from this machine's doors"
	}
	return strings.Join(names, ", ")
}

// Do breaks what was chosen.
func (f *Fault) Do(ctx context.Context) error {
	var err error
	switch f.Name {
	case "freeze":
		err = f.play.Freeze(ctx, f.Members, f.Role)
	case "thaw":
		err = f.play.Thaw(ctx, f.Members, f.Role)
	case "partition":
		from := f.From
		if len(from) == 0 {
			from = []string{AllPeers}
		}
		err = f.play.Cut(ctx, f.Members, from, from)
	case "one-way":
		err = f.play.Cut(ctx, f.Members, f.To, f.From)
	case "slow":
		err = f.play.Slow(ctx, f.Members, f.Slow)
	case "heal":
		err = f.play.Heal(ctx, f.Members)
	default:
		for i, n := range f.nodes { // one after another
			if err := f.failed(ctx, f.one(ctx, n), f.Members[i]); err != nil {
				return err
			}
		}
	}
	return f.failed(ctx, err, strings.Join(f.Members, ", "))
}

func (f *Fault) one(ctx context.Context, n spec.Node) error {
	switch f.Name {
	case "kill-postgres":
		return playground.KillPostgres(n)
	case "kill-agent":
		return playground.KillAgent(n)
	case "kill-node":
		return f.play.KillNode(ctx, n)
	case "stop-node":
		return f.play.StopNode(ctx, n)
	}
	return f.play.StartNode(ctx, n)
}

func (f *Fault) failed(ctx context.Context, err error, members string) error {
	if err == nil || problem.Code(err) != "" || ctx.Err() != nil {
		return err
	}
	return &problem.Error{
		Code: "fault-failed", What: "cannot " + f.Name + " " + members,
		Do: "see `howdah status`, and `howdah up` to set everything right", Err: err,
	}
}

// A LaidFault is what ails a member of a playground just now.
type LaidFault struct {
	Member string `json:"member"`
	Does   string `json:"does"`
	playground.Ill
}

// LaidFaults are those of the cluster's members, and nodes that are off; none
// where the house is no playground.
func (h House) LaidFaults(clusterName string) []LaidFault {
	found := []LaidFault{}
	play, err := playground.Load(h.Dir)
	if err != nil {
		return found
	}
	nodes, err := h.Nodes(clusterName)
	if err != nil {
		return found
	}
	laid, err := play.Faults()
	if err != nil {
		return found
	}
	for _, n := range nodes {
		ill := laid.Members[n.Member]
		var does []string
		if playground.Stopped(n) {
			does = append(does, "off, until `howdah fault start-node`")
		}
		if text := ill.String(); text != "" {
			does = append(does, text)
		}
		if len(does) > 0 {
			found = append(found, LaidFault{n.Member, strings.Join(does, "; "), ill})
		}
	}
	return found
}
