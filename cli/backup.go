package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"howdah/control"
)

func (a *app) backup() *cobra.Command {
	kind, into := "incr", ""
	kinds := []string{"full", "diff", "incr"}
	cmd := &cobra.Command{
		Use: "backup [CLUSTER]", Short: "Make a backup now",
		Long: `Backup has the leader back itself up into its repository, which another member
copies. It goes on when this command is interrupted. Backups are also made by
themselves: one when a cluster is new, the others as its inventory says.`,
		Example: `  howdah backup
  howdah backup demo --type full
  howdah backup demo --repository minio`,
		Args: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(kinds, kind) {
				return usage("--type %s: say one of %s", kind, strings.Join(kinds, ", "))
			}
			return takes(0)(cmd, args)
		},
		ValidArgsFunction: a.completeCluster,
		RunE: a.on(func(cmd *cobra.Command, c *control.Cluster) error {
			p, err := c.PlanBackup(cmd.Context(), control.BackupType(kind), into)
			if err != nil {
				return err
			}
			if ok, err := a.sure(p.String(), harmless); !ok {
				return err
			}
			if !a.json {
				a.printf("%s\n", sentence(p.String()))
			}
			b, err := c.Backup(cmd.Context(), p, a.progress())
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(a.Out, b)
				return nil
			}
			a.printf("%s: %s of %s stored, in %s\n", b.Label, bytes(b.Stored), bytes(b.Size), b.Stop.Sub(b.Start))
			return nil
		}),
	}
	cmd.Flags().StringVar(&kind, "type", kind, "full, diff (what changed since the last full one) or incr (since the last of any kind)")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(kinds, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().StringVar(&into, "repository", into, "where there are several: one by its name in the inventory or its number; the first unless it is said")
	a.changeFlags(cmd)
	return cmd
}

// progress prints how a backup goes: on a terminal over and over on one line,
// otherwise a line now and then. With --json nothing.
func (a *app) progress() func(control.BackupRun) {
	var last time.Time
	return func(r control.BackupRun) {
		now := time.Now()
		if a.json || !a.Terminal && now.Sub(last) < 5*time.Second {
			return
		}
		text := runText(r, now)
		if a.Terminal {
			a.printf("\r\x1b[K%s", text)
			if r.Total > 0 && r.Done >= r.Total {
				a.printf("\r\x1b[K")
			}
			return
		}
		if !last.IsZero() || r.Total > 0 {
			a.printf("%s\n", text)
		}
		last = now
	}
}

// runText is how far something is: bytes, rate and time left.
func runText(r control.BackupRun, now time.Time) string {
	if r.Total == 0 {
		return r.Does + ": " + r.Why
	}
	took := now.Sub(r.Began)
	text := fmt.Sprintf("%s: %.0f %%, %s of %s", r.Does, 100*float64(r.Done)/float64(r.Total), bytes(r.Done), bytes(r.Total))
	if rate := float64(r.Done) / took.Seconds(); took > time.Second && rate > 0 {
		text += fmt.Sprintf(", %s/s, %s left", bytes(int64(rate)), time.Duration(float64(r.Total-r.Done)/rate*float64(time.Second)).Round(time.Second))
	}
	if r.Waits != "" {
		text += "; waits for " + r.Waits
	}
	return text
}

func (a *app) backups() *cobra.Command {
	cmd := &cobra.Command{
		Use: "backups [CLUSTER]", Short: "The backups there are, and who holds them",
		Long: `Backups asks every member what its repository has: backups, and from where to
where WAL is archived. Where a member does not answer and is on this machine,
its disk is read.

It ends with 3 when there is no backup, or WAL does not get into the archive.`,
		Example: "  howdah backups\n  howdah backups demo --json",
		Args:    takes(0), ValidArgsFunction: a.completeCluster,
		RunE: a.on(func(cmd *cobra.Command, c *control.Cluster) error {
			b, err := c.Backups(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(a.Out, b)
			} else {
				a.printf("%s", backupsText(b, time.Now()))
			}
			if len(b.Backups) == 0 || slices.ContainsFunc(b.Members, func(s control.Repository) bool { return s.Leads && s.Archive.Stuck(time.Now()) }) {
				return errUnhealthy
			}
			return nil
		}),
	}
	a.jsonFlag(cmd)
	return cmd
}

func backupsText(b control.Backups, now time.Time) string {
	t := table{
		columns: []string{"Backup", "Type", "Begun", "Took", "Size", "Stored", "Held by"},
		right:   map[string]bool{"Took": true, "Size": true, "Stored": true},
	}
	for _, one := range b.Backups {
		label := one.Label
		if one.PageError {
			label += " (damaged pages)"
		}
		t.rows = append(t.rows, []string{
			label, string(one.Type), one.Start.Local().Format(time.DateTime), one.Stop.Sub(one.Start).String(),
			bytes(one.Size), bytes(one.Stored), strings.Join(one.Members, ", "),
		})
	}
	var text strings.Builder
	if len(b.Backups) == 0 {
		fmt.Fprintf(&text, "cluster %s has no backup yet\n", b.Cluster)
	} else {
		text.WriteString(t.String())
	}
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&text, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	where := func(s control.Repository) string {
		if s.Repository == "" {
			return s.Member
		}
		return s.Member + ", " + s.Repository
	}
	for _, s := range b.Members {
		switch {
		case s.Newest != "":
			line("archive", "%s: WAL from %s to %s", where(s), s.Oldest, s.Newest)
		case s.Unwell != "":
			line("archive", "%s: %s", where(s), s.Unwell)
		}
	}
	for _, s := range b.Members {
		if s.Streamed.LSN != "" {
			line("streamed", "%s: the log up to %s%s", where(s), s.Streamed.LSN, since(s.Streamed.At, now))
		}
		if r := s.Running; r != nil {
			line("running", "%s: %s", where(s), runText(*r, now))
		}
		if f := s.Failed; f != nil {
			line("failed", "%s: %s, %s: %s", where(s), f.Does, ago(now.Sub(f.At)), f.Error)
		}
	}
	leader := b.Of(b.Leader)
	for _, s := range b.Members {
		if s.Member != b.Leader {
			continue
		}
		in := ""
		if s.Repository != "" {
			in = "in " + s.Repository + ": "
		}
		for _, h := range s.Lost {
			line("gap", "%s%s; a backup is to follow", in, h)
		}
		if s.Hole != "" && len(s.Lost) == 0 {
			line("gap", "segment %s is missing in the archive of %s", s.Hole, where(s))
		}
		for _, h := range s.Holes {
			line("gap", "%s%s; what comes after it is reached from backup %s on", in, h, h.Backup)
		}
		if p := s.Archive; p.Pending > 0 {
			line("waiting", "%s%s", in, pendingText(p, now))
		}
	}
	if member, d := b.LastDrill(); d != nil {
		line("drill", "%s", drillText(member, *d, now))
	}
	for _, s := range b.Members {
		if !s.Drilling.IsZero() {
			line("drill", "one is made beside %s, begun %s", s.Member, ago(now.Sub(s.Drilling)))
		}
	}
	if due := leader.DrillDue; !due.IsZero() {
		line("drill", "the next is due %s", due.Local().Format(time.DateTime))
	}
	if next, err := time.Parse(time.RFC3339, leader.Next); err == nil {
		line("next", "%s", next.Local().Format(time.DateTime))
	}
	for _, one := range b.Backups {
		if len(one.Members) < one.Copies {
			line("copies", "%s is on %d member, and is to be on %d", one.Label, len(one.Members), one.Copies)
		}
	}
	return text.String()
}

// backupText is the state of backups in one line.
func backupText(b control.Backups, now time.Time) string {
	text := "none yet"
	if last, ok := b.Newest(); ok {
		text = fmt.Sprintf("%s %s, on %s", last.Type, ago(now.Sub(last.Stop)), strings.Join(last.Members, " and "))
		if n := len(b.Backups) - 1; n > 0 {
			text += fmt.Sprintf("; %d older", n)
		}
	}
	leader := b.Of(b.Leader)
	switch p := leader.Archive; {
	case b.Leader == "":
		text += "; nobody archives: no jobs of a leader answer"
	case p.Pending > 0:
		text += "; " + pendingText(p, now)
	case leader.Newest != "":
		text += "; WAL is archived up to " + leader.Newest
	}
	for _, s := range b.Members {
		if !s.Streamed.At.IsZero() {
			text += ", and streamed to " + cmp.Or(s.Bucket, s.Member) + since(s.Streamed.At, now)
		}
	}
	if r := leader.Running; r != nil {
		text += "; now: " + runText(*r, now)
	}
	return text
}

// since says that something was so last, if that is a while ago.
func since(at, now time.Time) string {
	if at.IsZero() || now.Sub(at) < 3*time.Second {
		return ""
	}
	return ", last " + ago(now.Sub(at))
}

// pendingText is how much waits for the archiver.
func pendingText(p control.BackupArchive, now time.Time) string {
	return fmt.Sprintf("%d files of WAL (%s) wait for the archive, the oldest since %s", p.Pending, bytes(p.Bytes), ago(now.Sub(p.Since)))
}
