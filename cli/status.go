package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"howdah/cluster"
	"howdah/control"
	"howdah/problem"
)

func (a *app) status() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use: "status [CLUSTER]", Short: "The members, and how well they are",
		Long: `Status prints the table of "howdah list" and a line each for what a person on
call wants to know: since when the leader leads, what would be lost with its
host just now, where the gateways lead clients, the store, the last change of
leader, and who is waited for.

It ends with 3 when the cluster has no leader or a member is not running.`,
		Example: `  howdah status
  howdah status --watch
  howdah status --json | jq .exposure`,
		SuggestFor: []string{"health", "info", "show"},
		Args:       takes(0), ValidArgsFunction: a.completeCluster,
		RunE: a.on(func(cmd *cobra.Command, c *control.Cluster) error {
			if watch {
				return a.watchStatus(cmd.Context(), c)
			}
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			a.printStatus(s)
			if len(s.Unwell) > 0 {
				return errUnhealthy
			}
			return nil
		}),
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "draw it anew every second, until interrupted")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) printStatus(s control.Status) {
	if a.json {
		a.printJSON(a.Out, s)
		return
	}
	a.printf("%s", statusText(s))
}

// watchStatus draws the status every second. A store that does not answer is
// shown, not an end: that is when one watches.
func (a *app) watchStatus(ctx context.Context, c *control.Cluster) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		s, err := c.Status(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if a.Terminal && !a.json {
			a.printf("\x1b[H\x1b[2J")
		}
		switch {
		case err != nil:
			a.complain(err)
		case a.json:
			a.printJSON(a.Out, s)
		default:
			a.printf("%s\n\n%s", time.Now().Format(time.DateTime), statusText(s))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// statusText is the table and one line for each thing to know.
func statusText(s control.Status) string {
	var b strings.Builder
	b.WriteString(listTable(s.Cluster, s.State) + "\n")
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	p := s.Picture
	switch {
	case p.Leader == "":
		line("leader", "nobody")
	case s.Since.IsZero():
		line("leader", "%s", p.Leader)
	default:
		line("leader", "%s since %s (%s)", p.Leader, s.Since.Local().Format(time.DateTime), ago(s.At.Sub(s.Since)))
	}
	if h := p.Handover; h != nil && h.From != "" {
		line("handover", "from %s to %s", h.From, h.To)
	}
	line("replication", "%s", replication(p))
	for _, v := range s.VIP {
		line("vip", "%s on %s", v.Address, v.Member)
	}
	if s.Follows != "" {
		line("follows", "%s: a standby cluster, which takes no writes; synchronous_mode does not apply", s.Follows)
	}
	if s.Commits != nil {
		line("commits", "%s", commitsText(*s.Commits))
	}
	switch {
	case s.Follows != "":
	case s.Commits != nil && s.Commits.Wait > 0:
		line("exposure", "nothing that was acknowledged would be lost with the leader's host")
	case s.Exposure == nil:
		line("exposure", "unknown: the leader has not said where it stands")
	default:
		line("exposure", "%s would be lost with the leader's host now (replication is asynchronous)", bytes(*s.Exposure))
	}
	line("survives", "%s", survivesText(s))
	line("access", "%s", accessText(s.Access))
	if len(s.Etcd) > 0 {
		line("etcd", "%s", etcdText(s.Etcd))
	}
	if s.Backup != nil {
		line("backup", "%s", backupText(*s.Backup, s.At))
		if member, d := s.Backup.LastDrill(); d != nil {
			line("drill", "%s", drillText(member, *d, s.At))
		}
	}
	if s.Last != nil {
		line("last change", "%s", pageLine(s.LastPage, *s.Last, s.At))
	}
	if s.Alerts != nil {
		line("alerts", "%s", alertsLine(*s.Alerts))
	}
	for _, f := range s.Faults {
		line("fault", "%s: %s", f.Member, f.Does)
	}
	for _, w := range s.Awaited {
		line("awaited", "%s", w)
	}
	for _, p := range s.Problems {
		of := ""
		if p.Member != "" {
			of = p.Member + ": "
		}
		line("problem", "%s%s", of, problemText(p.Error, 13))
	}
	for _, u := range s.Unwell {
		line("unwell", "%s", u)
	}
	return b.String()
}

// problemText prints p below itself, so far from the left.
func problemText(p problem.Error, indent int) string {
	return strings.ReplaceAll(problem.Text(&p), "\n", "\n"+strings.Repeat(" ", indent))
}

func replication(p cluster.Picture) string {
	var parts []string
	for _, m := range p.Members {
		if m.Leads() {
			continue
		}
		text := m.Name + " " + m.State
		if lag, known := m.Lag(); known && lag > 0 {
			text += ", " + bytes(lag) + " behind"
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return "no replica shows itself"
	}
	return strings.Join(parts, "; ")
}

// commitsText says whom commits wait for.
func commitsText(c control.Commits) string {
	degraded := ""
	if d := c.Degraded; d != nil {
		degraded = "; DEGRADED by " + d.By
		if !d.Until.IsZero() {
			degraded += " until " + d.Until.Local().Format(time.DateTime)
		}
		degraded += ": for nobody once none is left"
	}
	switch {
	case c.Wait > 0:
		return fmt.Sprintf("wait for %d of %s (synchronous_mode: %s)%s", c.Wait, strings.Join(c.Voters, ", "), c.Mode, degraded)
	case c.Degraded != nil:
		return "wait for nobody: no replica counts, and only the leader may lead" + degraded
	case c.Strict:
		return "wait: no replica counts yet (synchronous_mode_strict); start one, or see `howdah why`"
	}
	return "wait for nobody: no replica counts, and only the leader may lead (synchronous_mode: " + c.Mode + ")"
}

func survivesText(s control.Status) string {
	switch s.Survives {
	case 0:
		return "no further loss of a host"
	case 1:
		return "the loss of one host"
	}
	return fmt.Sprintf("the loss of %d hosts", s.Survives)
}

// accessText says how many gateways lead clients as they should, where, and
// what is wrong with the others.
func accessText(all []control.Gateway) string {
	if len(all) == 0 {
		return "no gateway runs"
	}
	well := 0
	var leads, unwell []string
	for _, g := range all {
		if g.Unwell != "" {
			unwell = append(unwell, g.Member+" "+g.Unwell)
			continue
		}
		if well++; well > 1 {
			continue
		}
		for _, s := range g.Services {
			if s.Name != control.Primary && s.Name != control.Replica {
				continue
			}
			to := strings.Join(s.To, ", ")
			if to == "" {
				to = "nobody, clients wait"
			}
			leads = append(leads, fmt.Sprintf("%d leads to %s", s.Port, to))
		}
	}
	text := fmt.Sprintf("%d of %d gateways up", well, len(all))
	return strings.Join(append(append([]string{text}, leads...), unwell...), "; ")
}

func etcdText(members []control.EtcdMember) string {
	up, leader := 0, "nobody leads"
	var down []string
	for _, m := range members {
		if m.Up {
			up++
		} else {
			down = append(down, m.Name)
		}
		if m.Leads {
			leader = m.Name + " leads"
		}
	}
	text := fmt.Sprintf("%d of %d members up, %s", up, len(members), leader)
	if len(down) > 0 {
		text += "; down: " + strings.Join(down, ", ")
	}
	return text
}

// pageLine tells a change of leader in one line.
func pageLine(number int64, p cluster.FailoverPage, now time.Time) string {
	text := fmt.Sprintf("#%d %s", number, p.Kind)
	if p.From != "" && p.From != p.To {
		text += " " + p.From + " -> " + p.To
	} else {
		text += " " + p.To
	}
	if n := len(p.Phases); n > 0 {
		text += " in " + milliseconds(p.Phases[n-1].After)
	}
	if p.LostBytes != nil {
		text += ", " + bytes(*p.LostBytes) + " lost"
	}
	return text + fmt.Sprintf(", %s (howdah why --failover %d)", ago(now.Sub(p.At)), number)
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.0f ms", float64(d.Microseconds())/1000)
}

// ago rounds to what matters.
func ago(d time.Duration) string {
	switch {
	case d < time.Second:
		return "just now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s ago", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min ago", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h ago", d.Hours())
	}
	return fmt.Sprintf("%.0f days ago", d.Hours()/24)
}

// bytes prints a size as people read it.
func bytes(n int64) string {
	const unit = 1024
	switch {
	case n < unit:
		return fmt.Sprintf("%d bytes", n)
	case n < unit*unit:
		return fmt.Sprintf("%.1f kB", float64(n)/unit)
	case n < unit*unit*unit:
		return fmt.Sprintf("%.1f MB", float64(n)/unit/unit)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/unit/unit/unit)
}
