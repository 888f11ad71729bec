package control

import (
	"context"
	"fmt"
	"strings"
	"time"

	"howdah/backup/keep"
	"howdah/cluster"
	"howdah/machine/doctor"
	"howdah/problem"
)

// backupSoon is how old the newest backup may be: the schedule makes one a day.
const backupSoon = 26 * time.Hour

// drillSoon is how long ago a restore may have been rehearsed.
const drillSoon = 31 * 24 * time.Hour

// Health says how a cluster is, check by check, with what was seen and what mends it:
// `howdah doctor` prints it, and the console shows it. What was not to be seen is
// unknown, never well.
func Health(st Status) []doctor.Finding {
	p, h := st.Picture, health{of: st.Cluster}
	h.leader(st)
	h.members(p)
	h.say("survival", graded(st.Survives > 0, doctor.Warn), "see what is not well below; with fewer than three hosts of etcd or two servers no loss is survived",
		"%d hosts may be lost with someone left to lead", st.Survives)
	if c := st.Commits; c != nil {
		waits := len(c.Voters) >= c.Wait && c.Wait > 0
		h.say("commits", graded(waits && c.Degraded == nil, doctor.Warn), "bring the replicas back; `howdah undegrade` ends what somebody accepted",
			"a commit waits for %d of %d standbys (%s)", c.Wait, len(c.Voters), c.Mode)
	}
	h.store(st.Etcd)
	h.gateways(st.Access)
	h.backups(st)
	if a := st.Alerts; a == nil {
		h.say("alerts", doctor.Unknown, "have one host keep metrics (group `infra`; in a playground `howdah up --observe`)", "nobody keeps metrics")
	} else if a.Unwell != "" {
		h.say("alerts", doctor.Unknown, "see observe.log of the host that keeps metrics", "what fires is not known: %s", a.Unwell)
	} else {
		grade, firing := doctor.OK, a.Firing()
		var names []string
		for _, one := range firing {
			if names = append(names, strings.TrimSpace(one.Name+" "+one.Member)); one.Severity == Critical || one.Severity == Warning {
				grade = doctor.Warn
			}
		}
		h.say("alerts", grade, "`howdah alerts` says of each what it means and what to do", "%d fire%s", len(firing), list(names))
	}
	for _, one := range st.Problems {
		h.all = append(h.all, doctor.Finding{Host: h.host(), Check: one.Code, Grade: doctor.Fail, Evidence: strings.TrimPrefix(one.Member+": ", ": ") + one.What + reasoned(one.Error), Do: one.Do})
	}
	return h.all
}

func reasoned(p problem.Error) string {
	if p.Why == "" {
		return ""
	}
	return ": " + p.Why
}

// health is what was found of one cluster.
type health struct {
	of  string
	all []doctor.Finding
}

func (h *health) host() string { return "cluster " + h.of }

// say adds a finding; what is well needs nothing to be done.
func (h *health) say(check string, g doctor.Grade, do, format string, args ...any) {
	if g == doctor.OK {
		do = ""
	}
	h.all = append(h.all, doctor.Finding{Host: h.host(), Check: check, Grade: g, Evidence: fmt.Sprintf(format, args...), Do: do})
}

func graded(well bool, otherwise doctor.Grade) doctor.Grade {
	if well {
		return doctor.OK
	}
	return otherwise
}

// list is names behind a number, if there are any.
func list(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ": " + strings.Join(names, ", ")
}

func (h *health) leader(st Status) {
	p := st.Picture
	switch {
	case p.Leader == "":
		h.say("leader", doctor.Fail, "`howdah why "+h.of+"` says what each member waits for", "nobody leads")
	case p.Paused:
		h.say("leader", doctor.Warn, "`howdah resume "+h.of+"` once whatever it was paused for is done", "%s leads on timeline %s, and nobody would follow by itself: the cluster is paused", p.Leader, p.Timeline)
	default:
		h.say("leader", doctor.OK, "", "%s leads on timeline %s", p.Leader, p.Timeline)
	}
}

func (h *health) members(p cluster.Picture) {
	var down, broken, pending []string
	streaming := 0
	for _, m := range p.Members {
		switch {
		case !m.Running:
			down = append(down, m.Name+" is "+m.State)
		case !m.Leads() && m.State != cluster.ReplicationStreaming:
			broken = append(broken, m.Name+" is "+m.State)
		case !m.Leads():
			streaming++
		}
		if m.PendingRestart {
			pending = append(pending, m.Name)
		}
	}
	for _, name := range p.Away {
		down = append(down, name+" does not show itself")
	}
	h.say("servers", graded(len(down) == 0, doctor.Fail), "`howdah logs "+h.of+" --since 10m --level warning` says why; start what is stopped (`howdah node`, in a playground `howdah fault start-node`)",
		"%d of %d run%s", len(p.Members)+len(p.Away)-len(down), len(p.Members)+len(p.Away), list(down))
	h.say("replication", graded(len(broken) == 0, doctor.Warn), "`howdah why "+h.of+"`; `howdah reinit "+h.of+" MEMBER` copies one anew that can not go on", "%d stream%s", streaming, list(broken))
	if len(pending) > 0 {
		h.say("settings", doctor.Warn, "`howdah restart "+h.of+" "+strings.Join(pending, " ")+"` when that suits", "parameters, or other programs of PostgreSQL, wait for a restart of %s", strings.Join(pending, ", "))
	}
}

// full is the share of etcd's quota from which on somebody should know.
const full = 0.8

func (h *health) store(all []EtcdMember) {
	if len(all) == 0 {
		h.say("store", doctor.Unknown, "", "its members are not known here")
		return
	}
	up, grade := 0, doctor.OK
	var ill []string
	for _, m := range all {
		switch {
		case !m.Up:
			ill, grade = append(ill, m.Name+" is down"), worse(grade, doctor.Warn)
			continue
		case len(m.Ill) > 0:
			ill, grade = append(ill, m.Name+" complains of "+strings.Join(m.Ill, " ")), doctor.Fail
		case m.Quota > 0 && float64(m.Bytes) > full*float64(m.Quota):
			ill, grade = append(ill, fmt.Sprintf("%s has %d of %d bytes", m.Name, m.Bytes, m.Quota)), worse(grade, doctor.Warn)
		}
		up++
	}
	if up <= len(all)/2 {
		grade = doctor.Fail
	}
	h.say("store", grade, "`howdah etcd status` says which; etcd.log of that node says why", "%d of %d members of etcd are up%s", up, len(all), list(ill))
}

func worse(a, b doctor.Grade) doctor.Grade {
	if b.Worse(a) {
		return b
	}
	return a
}

func (h *health) gateways(all []Gateway) {
	var unwell []string
	for _, g := range all {
		if g.Unwell != "" {
			unwell = append(unwell, g.Member+" "+g.Unwell)
		}
	}
	grade := graded(len(unwell) == 0, doctor.Warn)
	if len(unwell) == len(all) {
		grade = doctor.Fail // also when there is none
	}
	h.say("gateways", grade, "gateway.log of these nodes says why; PostgreSQL's own port answers meanwhile", "%d of %d lead clients to where the cluster is%s", len(all)-len(unwell), len(all), list(unwell))
}

func (h *health) backups(st Status) {
	b := st.Backup
	if b == nil {
		h.say("backups", doctor.Warn, "give the cluster a repository (`pgbackrest_enabled`)", "the cluster keeps none, or nobody says so")
		return
	}
	newest, any := b.Newest()
	switch age := st.At.Sub(newest.Stop); {
	case !any:
		h.say("backups", doctor.Fail, "`howdah backup "+h.of+"` makes one", "there is none yet")
	default:
		h.say("backups", graded(age < backupSoon && !newest.PageError, doctor.Warn), "`howdah backup "+h.of+"` makes one; `howdah backups "+h.of+"` says what came to nothing",
			"the newest of %d is %s old, on %s", len(b.Backups), age.Round(time.Minute), strings.Join(newest.Members, ", "))
	}
	leader := b.Of(b.Leader)
	switch {
	case b.Leader == "":
		h.say("archive", doctor.Fail, "see jobs.log of the member that leads", "nobody says that it archives")
	case leader.Hole != "":
		h.say("archive", doctor.Fail, "`howdah backup "+h.of+"` makes a backup from which on nothing is missing", "segment %s is missing after the newest backup", leader.Hole)
	case leader.Archive.Stuck(st.At):
		h.say("archive", doctor.Fail, "see whether the repository has room, and jobs.log and postgresql.log of "+b.Leader, "%d files wait for the archive since %s", leader.Archive.Pending, leader.Archive.Since.Local().Format(time.DateTime))
	default:
		h.say("archive", doctor.OK, "", "WAL is archived up to %s", leader.Newest)
	}
	switch _, d := b.LastDrill(); {
	case d == nil:
		h.say("drill", doctor.Warn, "`howdah drill "+h.of+"` restores the newest backup beside the cluster and looks through it", "no restore was ever rehearsed")
	case d.Verdict != keep.Passed:
		h.say("drill", doctor.Fail, "`howdah backups "+h.of+"` says what was wrong; `howdah drill "+h.of+"` tries again", "the last rehearsed restore did not pass")
	default:
		h.say("drill", graded(st.At.Sub(d.Last) < drillSoon, doctor.Warn), "`howdah drill "+h.of+"` rehearses one", "a restore was rehearsed %s ago, and passed", st.At.Sub(d.Last).Round(time.Minute))
	}
}

// Health looks at the cluster. One whose store does not answer is told as such.
func (c *Cluster) Health(ctx context.Context) []doctor.Finding {
	st, err := c.Status(ctx)
	if err != nil {
		p := problem.Plain(err)
		return []doctor.Finding{{Host: "cluster " + c.Name, Check: "store", Grade: doctor.Unknown, Evidence: p.What + reasoned(p), Do: p.Do}}
	}
	return Health(st)
}
