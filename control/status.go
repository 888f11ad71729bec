package control

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"howdah/cluster"
	"howdah/pg"
	"howdah/problem"
)

// A Status is the cluster's picture and what follows from it.
type Status struct {
	Cluster  string                `json:"cluster"`
	Picture  cluster.Picture       `json:"picture"`
	Since    time.Time             `json:"leader_since,omitzero"` // zero: not known
	Exposure *int64                `json:"exposure"`              // bytes that would be lost with the leader's host now; nil: unknown
	Commits  *Commits              `json:"commits,omitempty"`     // whom commits wait for; nil: nobody
	Follows  string                `json:"follows,omitempty"`     // the server of another cluster that this one follows; "": none
	Etcd     []EtcdMember          `json:"etcd"`
	Access   []Gateway             `json:"access"` // the gateways
	Backup   *Backups              `json:"backup"` // nil: the cluster keeps none
	Last     *cluster.FailoverPage `json:"last_failover,omitempty"`
	LastPage int64                 `json:"last_failover_number,omitempty"`
	VIP      []Held                `json:"vip,omitempty"` // who has the virtual address
	Alerts   *Alerts               `json:"alerts"`        // nil: nobody keeps metrics
	Faults   []LaidFault           `json:"faults"`        // that somebody laid on a playground
	Awaited  []string              `json:"awaited"`       // who or what is waited for, in words
	Problems []MemberProblem       `json:"problems"`      // what a person has to do something about
	Survives int                   `json:"survives"`      // hosts that may be lost, one after another or at once, with someone left to lead
	Unwell   []string              `json:"unwell"`        // what keeps the cluster from being healthy
	At       time.Time             `json:"at"`            // when this was seen
	State    cluster.State         `json:"-"`
}

// Commits is whom commits wait for in synchronous mode.
type Commits struct {
	Mode   string `json:"mode"` // on, quorum
	Strict bool   `json:"strict"`
	// Degraded: a person accepted that commits wait for nobody while no voter is left.
	Degraded *cluster.Degraded `json:"degraded,omitempty"`
	Wait     int               `json:"wait"`   // for so many of Voters; 0: for nobody, or, if strict, for whoever comes
	Voters   []string          `json:"voters"` // who counts now, and may be promoted
}

// commits is whom commits wait for, as /sync says.
func commits(s cluster.State, now time.Time) *Commits {
	mode := s.SynchronousMode()
	if mode == cluster.SyncOff && !s.Sync.Active() {
		return nil
	}
	c := &Commits{Mode: mode, Strict: s.Config.SynchronousModeStrict(), Voters: []string{}}
	if d, ok := s.Config.Degraded(); ok && c.Strict && !d.Over(now) {
		c.Degraded = &d
	}
	if s.Sync.Active() {
		c.Voters = append(c.Voters, s.Sync.Standby...)
		c.Wait = len(c.Voters) - s.Sync.Quorum
	}
	return c
}

// A Held is the virtual address as one member says that it has it.
type Held struct {
	Member  string `json:"member"`
	Address string `json:"address"`
}

// A MemberProblem is what a member says that it cannot help itself with.
type MemberProblem struct {
	Member string `json:"member"` // "": it is the cluster's as a whole
	problem.Error
}

// Status looks at the cluster and its store.
func (c *Cluster) Status(ctx context.Context) (Status, error) {
	var etcd []EtcdMember
	var kept *Backups
	var heard *Alerts
	var wg sync.WaitGroup
	wg.Go(func() { etcd = c.Etcd(ctx) })
	wg.Go(func() { heard = c.alerts(ctx) })
	wg.Go(func() {
		if b, err := c.backups(ctx, repositorySoon); err == nil {
			kept = &b
		}
	})
	s, err := c.State(ctx)
	access := c.Gateways(ctx, s)
	wg.Wait()
	if err != nil {
		return Status{}, err
	}
	st := statusOf(c.Name, s, etcd, c.now())
	st.Faults, st.Access, st.Alerts = c.Faults(), access, heard
	judge(st.Access, st.Picture)
	st.Problems = append(append([]MemberProblem{}, c.foreignLeader(s)...), append(st.Problems, c.closed(st.Access)...)...) // none, never null
	if st.Backup = kept; kept != nil {
		st.Exposure = inBucket(st.Exposure, s, *kept)
		st.Problems = append(st.Problems, kept.problems(st.At)...)
	}
	return st, nil
}

func statusOf(name string, s cluster.State, etcd []EtcdMember, now time.Time) Status {
	p := cluster.PictureOf(s)
	st := Status{
		Cluster: name, Picture: p, Since: since(s), Etcd: etcd, Awaited: awaited(s), Problems: problems(s), VIP: virtual(s),
		Unwell: Unwell(p), At: now, State: s,
	}
	st.Exposure = exposure(s, p)
	if s.Standby() {
		st.Follows = "a cluster that its configuration does not name"
		if up, _ := s.Config.Upstream(); up.Host != "" {
			st.Follows = net.JoinHostPort(up.Host, strconv.Itoa(up.Port))
		}
	}
	if n := len(s.Failovers); n > 0 {
		st.Last, st.LastPage = &s.Failovers[n-1], s.Failovers[n-1].Number
	}
	st.Survives = survives(p, etcd)
	if st.Commits = commits(s, now); st.Commits != nil {
		// With the leader so many voters may be lost at once that the rest can elect.
		st.Survives = min(st.Survives, st.Commits.Wait)
	}
	return st
}

// Unwell lists what keeps a cluster from being healthy; nothing else makes
// `list` and `status` exit with 3.
func Unwell(p cluster.Picture) []string {
	unwell := []string{}
	if p.Leader == "" {
		unwell = append(unwell, "there is no leader")
	}
	for _, m := range p.Members {
		if !m.Running {
			unwell = append(unwell, m.Name+" is "+m.State)
		}
	}
	for _, name := range p.Away {
		unwell = append(unwell, name+" does not show itself")
	}
	return append(unwell, p.Problems...)
}

// since is when the present leader began to write, by its page or the history.
// The last page is the present leader's even if its key has moved to another
// lease since, and with it to another epoch.
func since(s cluster.State) time.Time {
	if s.Leader == nil {
		return time.Time{}
	}
	if n := len(s.Failovers); n > 0 && s.Failovers[n-1].To == s.Leader.Name {
		page := s.Failovers[n-1]
		at := page.At
		if n := len(page.Phases); n > 0 {
			at = at.Add(page.Phases[n-1].After)
		}
		return at
	}
	if n := len(s.History); n > 0 && s.History[n-1].Leader == s.Leader.Name {
		at, _ := cluster.ParseTime(s.History[n-1].At)
		return at
	}
	return time.Time{}
}

// exposure is what the leader has and no replica that could follow it: as old
// as the positions that members publish, about a second.
func exposure(s cluster.State, p cluster.Picture) *int64 {
	leader, ok := s.Member(p.Leader)
	at := max(leader.XlogLocation, s.Status.Optime)
	if !ok || at == 0 {
		return nil
	}
	best := int64(at)
	for _, m := range s.Members {
		if m.Name == p.Leader || m.Timeline != leader.Timeline || m.Tags.NoFailover() {
			continue
		}
		if has := max(m.ReceiveLSN, m.ReplayLSN, m.XlogLocation); has != 0 {
			best = min(best, has.Behind(at))
		}
	}
	return &best
}

// inBucket is the exposure where WAL is archived into a bucket: what is there is
// not lost with the leader's host either.
func inBucket(lost *int64, s cluster.State, b Backups) *int64 {
	leader, ok := s.Member(b.Leader)
	there := pg.LSN(0)
	for _, says := range b.Members {
		if says.Member == b.Leader && says.Bucket != "" {
			archived, _ := pg.ParseLSN(says.Archived) // what can not be read is zero
			streamed, _ := pg.ParseLSN(says.Streamed.LSN)
			there = max(there, archived, streamed)
		}
	}
	if lost == nil || !ok || there == 0 {
		return lost
	}
	least := min(*lost, there.Behind(max(leader.XlogLocation, s.Status.Optime)))
	return &least
}

// survives counts the hosts that may go while somebody could still be elected:
// a majority of etcd must stay, and one server to lead.
func survives(p cluster.Picture, etcd []EtcdMember) int {
	ready := 0
	for _, m := range p.Members {
		if m.Running && !m.Leads() && !m.Tags.NoFailover() && m.State == cluster.ReplicationStreaming {
			ready++
		}
	}
	up := 0
	for _, e := range etcd {
		if e.Up {
			up++
		}
	}
	if len(etcd) > 0 {
		ready = min(ready, up-(len(etcd)/2+1))
	}
	if p.Leader == "" {
		return 0
	}
	return max(ready, 0)
}

// problems gathers what the members that live say of themselves.
func problems(s cluster.State) []MemberProblem {
	found := []MemberProblem{}
	for _, w := range s.Whys {
		if _, live := s.Member(w.Member); !live {
			continue // its last words are old
		}
		for _, p := range w.Problems {
			found = append(found, MemberProblem{w.Member, p})
		}
	}
	return found
}

// foreignLeader finds a leader key that is no member's: the leader who lives puts its
// own over it at once, and one that stands for longer keeps everybody from leading.
func (c *Cluster) foreignLeader(s cluster.State) []MemberProblem {
	if s.Leader == nil {
		return nil
	}
	name := s.Leader.Name
	if _, live := s.Member(name); name != "" && (live || s.Ours(name)) && !s.Stray() {
		return nil
	}
	etcdctl := "etcdctl"
	for _, n := range c.Nodes {
		if n.TLS.CA != "" && len(n.Etcd.Members) > 0 {
			etcdctl += fmt.Sprintf(" --endpoints %s --cacert %s --cert %s --key %s", strings.Join(n.Etcd.Endpoints(), ","), n.TLS.CA, n.TLS.Cert, n.TLS.Key)
			break
		}
	}
	return []MemberProblem{{Error: problem.Error{
		Code: "leader-key-foreign", What: "nobody can lead cluster " + c.Name,
		Why: fmt.Sprintf("its key leader says %s, which no member wrote, and who led last (%s) does not put it right", strconv.Quote(shortened(name)), last(s)),
		Do:  "find out who wrote it, and start the member that led last: it takes the key back. If it is lost, wait for the length of a lease, then delete the key, and the members elect: `" + etcdctl + " del " + c.namespace() + "/" + c.Name + "/" + cluster.KeyLeader + "`",
	}}}
}

// last is who led last, as the store has it.
func last(s cluster.State) string {
	if s.Term == nil {
		return "not known"
	}
	return s.Term.Leader
}

// shortened is a word from outside as it fits into a sentence.
func shortened(text string) string {
	if len(text) > 40 {
		text = strings.ToValidUTF8(text[:37], "") + "..."
	}
	return text
}

// closed says what it means when no gateway answers, or none is known.
func (c *Cluster) closed(all []Gateway) []MemberProblem {
	switch {
	case len(all) == 0:
		return []MemberProblem{{Error: problem.Error{
			Code: "gateway-none", What: "no gateway leads to cluster " + c.Name,
			Why: "none has announced itself in the store, and no node of this machine runs one: nobody answers on the ports of its services",
			Do:  "start `howdah node` on the hosts that carry them (pg_service_provider of the inventory, or else its members), or, where another cluster has these ports on the same hosts, give its services others (pg_services); PostgreSQL's own port answers meanwhile",
		}}}
	case slices.ContainsFunc(all, func(g Gateway) bool { return g.told != nil }):
		return nil
	}
	var names []string
	for _, g := range all {
		names = append(names, g.Member)
	}
	return []MemberProblem{{Error: problem.Error{
		Code: "gateway-down", What: "no gateway of cluster " + c.Name + " answers", Why: "those of " + strings.Join(names, ", ") + " are silent: nobody answers on the ports of its services",
		Do: "gateway.log of these nodes says why; where the whole node is down, start it (`howdah node`, in a playground `howdah fault start-node MEMBER`). PostgreSQL's own port answers meanwhile",
	}}}
}

// virtual gathers who says that it has the virtual address.
func virtual(s cluster.State) (all []Held) {
	for _, w := range s.Whys {
		if _, live := s.Member(w.Member); live && w.VIP != "" {
			all = append(all, Held{w.Member, w.VIP})
		}
	}
	return all
}

// awaited gathers whom or what members say they wait for.
func awaited(s cluster.State) []string {
	waits := []string{}
	for _, w := range s.Whys {
		if _, live := s.Member(w.Member); live && len(w.Waiting) > 0 {
			waits = append(waits, fmt.Sprintf("%s waits: %s", w.Member, strings.Join(w.Waiting, ", ")))
		}
	}
	return waits
}

// Faults are laid on members of the cluster; none where it is no playground.
func (c *Cluster) Faults() []LaidFault {
	return House{Dir: filepath.Dir(c.Dir)}.LaidFaults(c.Name)
}
