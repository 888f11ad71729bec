package cli

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"howdah/cluster"
	"howdah/control"
	"howdah/pg"
)

func (a *app) list() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list [CLUSTER]", Short: "The members, as patronictl lists them",
		Long: `List prints the members of a cluster as "patronictl list" does; with --json,
what "patronictl list -f json" prints.

It ends with 3 when the cluster has no leader or a member is not running.`,
		Example: `  howdah list
  howdah list demo --json | jq -r '.[] | select(.Role == "Leader").Member'`,
		SuggestFor: []string{"ls", "ps", "members", "topology"},
		Args:       takes(0), ValidArgsFunction: a.completeCluster,
		RunE: a.on(func(cmd *cobra.Command, c *control.Cluster) error {
			s, err := c.State(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				a.printf("%s\n", listJSON(c.Name, s))
			} else {
				a.printf("%s", listTable(c.Name, s))
				for _, f := range c.Faults() {
					a.printf(" Fault on %s: %s\n", f.Member, f.Does)
				}
			}
			if len(control.Unwell(cluster.PictureOf(s))) > 0 {
				return errUnhealthy
			}
			return nil
		}),
	}
	a.jsonFlag(cmd)
	return cmd
}

// A listed row holds what patronictl's list knows of a member. Empty values are
// those that it leaves out.
type listed struct {
	member, host, role, state string
	timeline                  pg.Timeline
	receiveLSN, receiveLag    string
	replayLSN, replayLag      string
	pending, reason           string
	scheduled                 string
	tags                      cluster.Tags
}

// columns that appear only when some member has a value for them.
const (
	pendingRestart = "Pending restart"
	pendingReason  = "Pending restart reason"
	scheduled      = "Scheduled restart"
	tags           = "Tags"
)

// listRows follows patronictl's output_members (ctl.py) and cluster_as_json
// (utils.py) of Patroni 4.1. hideLong shortens long reasons, as for a table.
func listRows(s cluster.State, hideLong bool) (rows []listed, extra []string) {
	p := cluster.PictureOf(s)
	hosts := map[string]bool{}
	shown, withPort := 0, false
	for _, m := range p.Members {
		if m.Host != "" {
			hosts[m.Host] = true
			shown++
			withPort = withPort || m.Port != 5432
		}
	}
	withPort = withPort || len(hosts) < shown
	has := map[string]bool{}
	for _, pm := range p.Members {
		m, _ := s.Member(pm.Name)
		row := listed{
			member: m.Name, host: pm.Host, role: pm.Role.Title(), state: pm.State, timeline: m.Timeline,
			reason: reasons(m.PendingRestartReason, hideLong), scheduled: scheduledText(m.ScheduledRestart), tags: m.Tags,
		}
		if withPort && pm.Host != "" && pm.Port != 0 {
			row.host += ":" + strconv.Itoa(pm.Port)
		}
		if m.PendingRestart {
			row.pending = "*"
		}
		if m.Name != p.Leader {
			row.receiveLSN, row.receiveLag = listLSN(s, m.ReceiveLSN)
			row.replayLSN, row.replayLag = listLSN(s, m.ReplayLSN)
			if m.ReceiveLSN == 0 && m.ReplayLSN == 0 && m.XlogLocation != 0 { // of a Patroni before 4.1
				lsn, lag := listLSN(s, m.XlogLocation)
				if pm.State == cluster.ReplicationStreaming {
					row.receiveLSN, row.receiveLag = lsn, lag
				} else {
					row.replayLSN, row.replayLag = lsn, lag
				}
			}
		}
		if pm.Host != "" {
			has[pendingRestart] = has[pendingRestart] || m.PendingRestart
			has[pendingReason] = has[pendingReason] || len(m.PendingRestartReason) > 0
			has[scheduled] = has[scheduled] || len(m.ScheduledRestart) > 0
			has[tags] = has[tags] || len(m.Tags) > 0
		}
		rows = append(rows, row)
	}
	for _, c := range []string{pendingRestart, pendingReason, scheduled, tags} {
		if has[c] {
			extra = append(extra, c)
		}
	}
	return rows, extra
}

// listLSN is a standby's position and its lag in MB, rounded half to even as
// Python rounds. An unknown position is the word, and its lag is empty.
func listLSN(s cluster.State, at pg.LSN) (lsn, lag string) {
	if at == 0 {
		return "unknown", ""
	}
	return at.String(), strconv.FormatInt(int64(math.RoundToEven(float64(at.Behind(s.Status.Optime))/(1<<20))), 10)
}

func reasons(changes map[string]cluster.PendingChange, hideLong bool) string {
	const longest = 50
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		line := name + ": " + changes[name].Old + "->" + changes[name].New
		if hideLong && len(line) > longest {
			line = name + ": [hidden - too long]"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func scheduledText(restart map[string]any) string {
	at, _ := restart["schedule"].(string)
	if version, ok := restart["postgres_version"]; ok {
		at += fmt.Sprintf(" if version < %v", version)
	}
	return at
}

func listTable(name string, s cluster.State) string {
	rows, extra := listRows(s, true)
	t := table{
		title:   " Cluster: " + name + " (" + systemTitle(s) + ") ",
		columns: append([]string{"Member", "Host", "Role", "State", "TL", "Receive LSN", "Lag", "Replay LSN", "Lag"}, extra...),
		right:   map[string]bool{"TL": true, "Receive LSN": true, "Replay LSN": true, "Lag": true},
	}
	for _, r := range rows {
		tl := ""
		if r.timeline != 0 {
			tl = r.timeline.String()
		}
		row := []string{r.member, r.host, r.role, r.state, tl, r.receiveLSN, r.receiveLag, r.replayLSN, r.replayLag}
		for _, c := range extra {
			row = append(row, map[string]string{
				pendingRestart: r.pending, pendingReason: r.reason, scheduled: r.scheduled, tags: yamlTags(r.tags),
			}[c])
		}
		t.rows = append(t.rows, row)
	}
	return t.String() + footer(s)
}

func systemTitle(s cluster.State) string {
	switch {
	case s.Initialize.System != 0:
		return s.Initialize.System.String()
	case s.Initialize.Present:
		return "initializing"
	}
	return "uninitialized"
}

// footer is get_cluster_service_info's.
func footer(s cluster.State) string {
	var b strings.Builder
	if s.Config.Pause() {
		b.WriteString(" Maintenance mode: on\n")
	}
	if f := s.Failover; !f.ScheduledAt.IsZero() {
		b.WriteString(" Switchover scheduled at: " + cluster.FormatTime(f.ScheduledAt) + "\n")
		if f.Leader != "" {
			fmt.Fprintf(&b, "%24s: %s\n", "from", f.Leader)
		}
		if f.Member != "" {
			fmt.Fprintf(&b, "%24s: %s\n", "to", f.Member)
		}
	}
	return b.String()
}

// yamlTags prints tags as YAML's block form, sorted as PyYAML sorts them.
func yamlTags(t cluster.Tags) string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(t)) {
		lines = append(lines, name+": "+yamlScalar(t[name]))
	}
	return strings.Join(lines, "\n")
}

// yamlScalar quotes what YAML 1.1 would read as something else than text.
func yamlScalar(v any) string {
	s, ok := v.(string)
	if !ok {
		return ascii(v)
	}
	_, err := strconv.ParseFloat(s, 64)
	words := []string{"", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n"}
	plain := err != nil && !slices.Contains(words, strings.ToLower(s)) && s == strings.TrimSpace(s) &&
		!strings.ContainsAny(s[:1], "-?:,[]{}#&*!|>'\"%@`") && !strings.Contains(s, ": ") && !strings.Contains(s, " #") && !strings.HasSuffix(s, ":")
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

func listJSON(name string, s cluster.State) string {
	rows, extra := listRows(s, false)
	var objects []object
	for _, r := range rows {
		o := object{{"Cluster", name}}
		text := func(name, value string) {
			if value != "" {
				o = append(o, field{name, value})
			}
		}
		lag := func(name, value string) {
			if n, err := strconv.Atoi(value); err == nil {
				o = append(o, field{name, n})
			}
		}
		text("Member", r.member)
		text("Host", r.host)
		text("Role", r.role)
		text("State", r.state)
		if r.timeline != 0 {
			o = append(o, field{"TL", int64(r.timeline)})
		}
		text("Receive LSN", r.receiveLSN)
		lag("Receive Lag", r.receiveLag)
		text("Replay LSN", r.replayLSN)
		lag("Replay Lag", r.replayLag)
		for _, c := range extra {
			switch c {
			case pendingRestart:
				text(c, r.pending)
			case pendingReason:
				text(c, r.reason)
			case scheduled:
				text(c, r.scheduled)
			case tags:
				if len(r.tags) > 0 {
					o = append(o, field{c, tagsObject(r.tags)})
				}
			}
		}
		objects = append(objects, o)
	}
	return pythonJSON(objects)
}

func tagsObject(t cluster.Tags) object {
	var o object
	for _, name := range slices.SortedFunc(maps.Keys(t), cmp.Compare[string]) {
		o = append(o, field{name, t[name]})
	}
	return o
}
