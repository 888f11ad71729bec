package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"howdah/control"
	"howdah/problem"
)

func (a *app) drill() *cobra.Command {
	to := control.Latest
	cmd := &cobra.Command{
		Use: "drill [CLUSTER]", Short: "Prove that the newest backup brings the cluster back",
		Long: `Drill restores the newest backup into a server of its own, on this machine, replays
the log to its end or to a moment, looks through all tables and indexes (pg_amcheck)
and pages (pg_checksums) where PostgreSQL's programs for that are installed, and
removes it. The cluster does not notice.

It says how long a restore takes; "howdah status" and the metrics show the last one.
It ends with 3 when the backup or its WAL is broken, and with 1 when the drill itself
could not be made, which says nothing of the backup.`,
		Example: "  howdah drill\n  howdah drill demo --to '1 hour ago'\n  0 4 * * 6 howdah drill demo --yes      # in a crontab",
		Args:    takes(0), ValidArgsFunction: a.completeCluster,
		RunE: a.on(func(cmd *cobra.Command, c *control.Cluster) error {
			d, err := c.PlanDrill(cmd.Context(), to)
			if err != nil {
				return err
			}
			say := func(text string) {
				if !a.json {
					a.warnf("%s\n", text)
				}
			}
			for _, note := range d.Notes {
				say(note)
			}
			if a.dry && a.json {
				a.printJSON(a.Out, map[string]any{"dry_run": true, "would": d.String(), "plan": d.Peek})
				return nil
			}
			if ok, err := a.sure(d.String(), harmless); !ok {
				return err
			}
			say(sentence(d.String()))
			report, err := d.Run(cmd.Context(), say)
			if a.json {
				a.printJSON(a.Out, report)
			} else if err == nil {
				a.printf("%s", drilledText(d.Beside(), report))
			}
			if problem.Code(err) == "drill-failed" {
				a.complain(err)
				return errUnhealthy
			}
			return err
		}),
	}
	cmd.Flags().StringVar(&to, "to", to, "the moment to restore to, as for restore")
	a.changeFlags(cmd)
	return cmd
}

// drilledText is a report of one that passed.
func drilledText(beside string, d control.DrillReport) string {
	var b strings.Builder
	took := func(t time.Duration) string { return t.Round(10 * time.Millisecond).String() }
	fmt.Fprintf(&b, "Passed beside %s: backup %s of %s is back after %s (%s of files in %s, the log to %s in %s).\n",
		beside, d.Backup, d.From, took(d.Restored+d.Replayed), bytes(d.Bytes), took(d.Restored), d.LSN, took(d.Replayed))
	if !d.Commit.IsZero() {
		fmt.Fprintf(&b, "The last commit in it is of %s.\n", d.Commit.Local().Format("2006-01-02 15:04:05.000"))
	}
	for _, c := range d.Checks {
		fmt.Fprintf(&b, "%s: %s.\n", sentence(c.What), c.Said)
	}
	return b.String()
}

// drillText is the last drill in one line.
func drillText(member string, d control.DrillReport, now time.Time) string {
	text := fmt.Sprintf("%s %s, beside %s: backup %s of %s", d.Verdict, ago(now.Sub(d.Began)), member, d.Backup, d.From)
	if d.Why != "" {
		text += ": " + d.Why
		if !d.Last.IsZero() {
			text += "; one passed " + ago(now.Sub(d.Last))
		}
		return text
	}
	text += " back after " + (d.Restored + d.Replayed).Round(10*time.Millisecond).String()
	if d.Missing > 0 {
		text += fmt.Sprintf(", without the last %s of the log (%s at most)", bytes(d.Missing), d.Exposure.Round(10*time.Millisecond))
	}
	return text
}
