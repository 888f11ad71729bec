package plan

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"howdah/spec"
)

// Node is what has to change of a member's description. was is nil for a member
// that is not there yet. contexts are those of pg_settings, by name.
func Node(was *spec.Node, want spec.Node, contexts map[string]string) Plan {
	var p Plan
	object := "member " + want.Member
	add := func(s Step) {
		s.Object, s.Member = object, want.Member
		p.Steps = append(p.Steps, s)
	}
	if was == nil || was.Alone() && !want.Alone() {
		add(Step{What: "make " + object + " on host " + want.Host, Risk: Safe, Why: "there is no such member"})
		return p
	}
	if changed, risk := parameters(was.Postgres.Parameters, want.Postgres.Parameters, contexts); len(changed) > 0 {
		why := "its server takes them while it runs"
		if risk == Restart {
			why = "some of them count after a restart of its server"
		}
		add(Step{What: "set " + names(changed) + " of " + object, Risk: risk, Why: why, Settings: changed})
	}
	if lines, moved := rules(was.Postgres.HBA, want.Postgres.HBA); len(lines) > 0 || moved {
		add(access("pg_hba.conf", object, lines, moved))
	}
	if lines, moved := rules(was.Pool.HBA, want.Pool.HBA); len(lines) > 0 || moved {
		s := access("its pooler's access rules", object, lines, moved)
		s.Risk, s.Why = Restart, "its gateway starts anew: the sessions through it end"
		add(s)
	}
	backup := want.Backup // without what is told here
	if changed := schedule(was.Backup, want.Backup); len(changed) > 0 && was.Backup.Repo != "" && want.Backup.Repo != "" {
		add(Step{
			What: "set " + names(changed) + " of " + object, Risk: Safe, Settings: changed,
			Why: "what may wait starts anew",
		})
		backup.Times, backup.Drill, backup.Full, backup.ByTime = was.Backup.Times, was.Backup.Drill, was.Backup.Full, was.Backup.ByTime
	}
	pool := was.Pool
	pool.HBA = want.Pool.HBA // told already
	var gateway, agent, jobs, observe, store []string
	if want.Etcd.Member != "" && !was.Etcd.Alike(want.Etcd) {
		store = append(store, "pace of etcd")
	}
	for _, part := range []struct {
		name string
		into *[]string
		a, b any
	}{
		{"services", &gateway, was.Gateway, want.Gateway},
		{"pool", &gateway, pool, want.Pool},
		{"users and databases of the pool", &gateway, Pooled(was.Objects), Pooled(want.Objects)},
		{"jobs", &jobs, was.Jobs, want.Jobs},
		{"name server", &jobs, was.DNS, want.DNS},
		{"backup", &jobs, was.Backup, backup},
		{"logs", &jobs, was.Logs, want.Logs},
		{"store of metrics", &observe, was.Observe, want.Observe},
		{"REST", &agent, was.Agent.REST, want.Agent.REST},
		{"listener", &agent, was.Agent.Listen, want.Agent.Listen},
		{"timers", &agent, was.Agent.Timers, want.Agent.Timers},
		{"virtual address", &agent, was.VIP, want.VIP},
		{"tags", &agent, was.Agent.Tags, want.Agent.Tags},
		{"delay", &agent, was.Postgres.Delay, want.Postgres.Delay},
		{"certificate", &agent, was.TLS, want.TLS},
	} {
		if text(part.a) != text(part.b) {
			*part.into = append(*part.into, part.name)
		}
	}
	if text(rest(*was)) != text(rest(want)) {
		agent = append(agent, "what else describes it")
	}
	for _, s := range []struct {
		parts []string
		risk  Risk
		why   string
	}{
		{gateway, Restart, "its gateway starts anew: the sessions through it end"},
		{agent, Safe, "its agent starts anew, and takes its server over as it runs"},
		{jobs, Safe, "what may wait starts anew"},
		{store, Safe, "its member of etcd starts anew: one after the other, and only while all are well"},
		{observe, Safe, "the store of metrics starts anew, and has what it had"},
	} {
		if len(s.parts) > 0 {
			add(Step{What: "change " + object + ": " + strings.Join(s.parts, ", "), Risk: s.risk, Why: s.why})
		}
	}
	return p
}

// schedule is what differs of when backups are made, how many stay, and when a restore
// is rehearsed, by the inventory's names.
func schedule(was, want spec.Backup) (changed []Setting) {
	retention := func(b spec.Backup) string {
		switch {
		case b.Full == 0:
			return "all"
		case b.ByTime:
			return strconv.Itoa(b.Full) + " days"
		}
		return strconv.Itoa(b.Full) + " full"
	}
	for _, s := range []Setting{
		{"pg_crontab", strings.Join(was.Times, "; "), strings.Join(want.Times, "; ")},
		{"pgbackrest_drill", was.Drill, want.Drill},
		{"retention_full", retention(was), retention(want)},
	} {
		if s.From != s.To {
			changed = append(changed, s)
		}
	}
	return changed
}

// rest is a description without what Node tells in particular, and without what
// is no node's: what the servers hold, and what a cluster begins with.
func rest(n spec.Node) spec.Node {
	n.Postgres.Parameters, n.Postgres.HBA, n.Postgres.Delay = nil, nil, ""
	n.Gateway, n.Pool, n.Jobs, n.Backup, n.TLS, n.Objects, n.VIP, n.DNS, n.Observe, n.Logs = spec.Gateway{}, spec.Pool{}, spec.Jobs{}, spec.Backup{}, spec.TLS{}, spec.Objects{}, spec.VIP{}, spec.DNS{}, spec.Observe{}, spec.Logs{}
	n.Agent, n.Etcd.Election, n.Etcd.Heartbeat, n.Paths.Binary = spec.Agent{}, 0, 0, ""
	return n
}

// Pooled is what a gateway has of roles and databases: whose limits differ from the
// pool's, and who may look at it.
func Pooled(o spec.Objects) []string {
	all := []string{"", ""} // an administrator whom nobody declared administrates nothing
	for _, r := range Merged(o.Roles) {
		switch r.Name {
		case o.Admin:
			all[0] = r.Name
		case o.Monitor:
			all[1] = r.Name
		}
		if r.PoolMode != "" || r.PoolLimit != 0 || len(r.PoolParameters) > 0 {
			all = append(all, r.Name, r.PoolMode, strconv.Itoa(r.PoolLimit), text(r.PoolParameters))
		}
	}
	for _, d := range o.Databases {
		own := spec.Database{Name: d.Name, PoolMode: d.PoolMode, PoolSize: d.PoolSize, PoolSizeMin: d.PoolSizeMin, PoolReserve: d.PoolReserve, PoolLimit: d.PoolLimit}
		if d.State != spec.Absent && text(own) != text(spec.Database{Name: d.Name}) {
			all = append(all, text(own))
		}
	}
	return all
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// parameters are those of a server that change, and what that costs.
func parameters(was, want map[string]string, contexts map[string]string) (changed []Setting, risk Risk) {
	risk = Safe
	for _, name := range slices.Sorted(maps.Keys(union(was, want))) {
		if was[name] == want[name] {
			continue
		}
		changed = append(changed, Setting{name, was[name], want[name]})
		if r := Context(contexts[name]); r.Over(risk) {
			risk = r
		}
	}
	return changed, risk
}

// rules are the lines of access rules that come and go; moved says that the same
// lines stand in another order.
func rules(was, want []spec.AccessRule) (lines []string, moved bool) {
	flatten := func(all []spec.AccessRule) (out []string) {
		for _, r := range all {
			for _, line := range r.Lines {
				if r.Role != "" {
					line += "   # while it is a " + r.Role
				}
				out = append(out, line)
			}
		}
		return out
	}
	a, b := flatten(was), flatten(want)
	if slices.Equal(a, b) {
		return nil, false
	}
	count := map[string]int{}
	for _, line := range a {
		count[line]--
	}
	for _, line := range b {
		if count[line]++; count[line] > 0 {
			lines = append(lines, "+"+line)
		}
	}
	for _, line := range a {
		if count[line] < 0 {
			count[line]++
			lines = append(lines, "-"+line)
		}
	}
	return lines, len(lines) == 0
}

func access(file, object string, lines []string, moved bool) Step {
	s := Step{Risk: Reload, Why: "it counts for whoever connects from then on", Lines: lines}
	if moved {
		s.What = "change the order of " + file + " of " + object
		return s
	}
	word := " lines of "
	if len(lines) == 1 {
		word = " line of "
	}
	s.What = "change " + strconv.Itoa(len(lines)) + word + file + " of " + object
	return s
}

// Pending are the members that have to be restarted for parameters that wait for
// it, by name: replicas first, the leader last, after a switchover. Only what a
// standby must have no less of than its primary comes down the other way: the
// leader first, in place, since whoever would lead instead still has the most.
func Pending(waiting map[string][]Setting, leader string) Plan {
	var p Plan
	members := slices.Sorted(maps.Keys(waiting))
	down := slices.ContainsFunc(waiting[leader], Setting.lowers)
	if i := slices.Index(members, leader); i >= 0 {
		members = slices.Delete(members, i, i+1)
		if down {
			members = slices.Insert(members, 0, leader)
		} else {
			members = append(members, leader)
		}
	}
	for _, m := range members {
		s := Step{Object: "member " + m, Member: m, What: "restart member " + m, Risk: Restart, Why: names(waiting[m]) + " of its server waits for it"}
		switch {
		case m == leader && down:
			s.InPlace = true
			s.Why += "; in place, because no replica can have less than its primary"
		case m == leader:
			s.Why += "; another member leads before, if one can"
		}
		p.Steps = append(p.Steps, s)
	}
	return p
}

// lowers says that a standby can not have the setting before its primary has it
// (the manual, "Administrator's Overview" of hot standby).
func (s Setting) lowers() bool {
	from, err1 := strconv.Atoi(s.From)
	to, err2 := strconv.Atoi(s.To)
	return err1 == nil && err2 == nil && to < from && slices.Contains([]string{
		"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction",
	}, s.Name)
}
