package cli

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"howdah/control"
	"howdah/observe/logbook"
)

func (a *app) logs() *cobra.Command {
	var q control.LogQuery
	var since, until, level, grep string
	cmd := &cobra.Command{
		Use: "logs [CLUSTER] [MEMBER…]", Short: "What PostgreSQL and the roles of all nodes wrote, in the order of time",
		Long: `Logs reads the log files of the cluster's members, and what was kept of them:
those of this machine itself, for which nothing has to run, and those of other
machines where "howdah jobs" tells them. Hosts without a server are named by their
group or themselves (infra, infra-2), and where there is no cluster all are meant;
the machine that keeps metrics says then who there is. PostgreSQL's lines (stderr, csvlog,
jsonlog) and those of agent, gateway, jobs and the others are understood, put in
the order of their times, and shown with what belongs to them. Passwords are not
shown.

Without --since the newest 100 records are shown (--last), with -f the newest ten
and whatever comes. With --json each record is one line of JSON, by the names
that log stores know.`,
		Example: `  howdah logs --since 10m --level warning
  howdah logs demo demo-1 --job agent -f
  howdah logs --user app --db shop --grep 'duration: [0-9]{4,}'
  howdah logs --file /var/log/postgresql/postgresql-Sun.csv --level error`,
		SuggestFor: []string{"log", "journal", "tail"},
		Args:       takes(many), ValidArgsFunction: a.completeCluster,
		RunE: func(cmd *cobra.Command, args []string) error {
			now := time.Now()
			var err error
			if q.Since, err = parseSince("--since", since, now); err != nil {
				return err
			}
			if q.Until, err = parseSince("--until", until, now); err != nil {
				return err
			}
			if level != "" {
				l, ok := logbook.ParseLevel(level)
				if !ok {
					return usage("--level %s: give one of %s", level, strings.Join(logbook.Levels, ", "))
				}
				q.Level = l
			}
			if grep != "" {
				if q.Grep, err = regexp.Compile(grep); err != nil {
					return usage("--grep: %w", err)
				}
			}
			switch {
			case cmd.Flags().Changed("last") && q.Last < 1:
				return usage("--last %d: give a number from 1", q.Last)
			case cmd.Flags().Changed("last"):
			case since != "" || len(q.Files) > 0 && !q.Follow:
				q.Last = 0
			case q.Follow:
				q.Last = 10
			}
			if len(q.Files) > 0 && len(args) > 0 {
				return usage("--file reads files, not those of a cluster: leave out %s", strings.Join(args, " "))
			}
			h, err := a.house()
			if err != nil {
				return err
			}
			name, members := split(h, args, many)
			q.Members = append(members, q.Members...)
			q.Away = func(err error) { fmt.Fprintln(a.Err, err) }
			return h.Logs(cmd.Context(), name, q, func(r logbook.Record) error {
				if !a.json {
					_, err := a.Out.Write([]byte(logText(r)))
					return err
				}
				line, err := json.Marshal(r)
				if err == nil {
					_, err = a.Out.Write(append(line, '\n'))
				}
				return err
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&since, "since", "", "from then on: 10m, 2d, 14:30, '2026-11-22 14:30:00'")
	f.StringVar(&until, "until", "", "until then")
	f.StringVar(&level, "level", "", "at least so bad: "+strings.Join(logbook.Levels, ", "))
	f.StringSliceVar(&q.Members, "member", nil, "of these members only")
	f.StringSliceVar(&q.Jobs, "job", nil, "of these only: postgres, agent, gateway, jobs, etcd, node, observe, pgbackrest …")
	f.StringVar(&q.User, "user", "", "of this database user")
	f.StringVar(&q.Database, "db", "", "of this database")
	f.StringVar(&grep, "grep", "", "whose text matches this regular expression")
	f.StringSliceVar(&q.Files, "file", nil, "read these files, of any PostgreSQL, in place of a cluster's")
	f.IntVarP(&q.Last, "last", "n", 100, "so many, the newest")
	f.BoolVarP(&q.Follow, "follow", "f", false, "go on with whatever is written")
	_ = cmd.RegisterFlagCompletionFunc("level", cobra.FixedCompletions(logbook.Levels, cobra.ShellCompDirectiveNoFileComp))
	a.jsonFlag(cmd)
	return cmd
}

var daysText = regexp.MustCompile(`^([0-9]{1,5})d$`)

// parseSince reads a time, or how long ago it was.
func parseSince(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if m := daysText.FindStringSubmatch(text); m != nil {
		days, _ := strconv.Atoi(m[1]) // five digits are a number
		return now.AddDate(0, 0, -days), nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if m, err := control.ParseMoment(text, now); err == nil && !m.At.IsZero() {
		return m.At, nil
	}
	return time.Time{}, usage("%s %s: give how long ago (10m, 2d), or a time like 14:30 or '2026-11-22 14:30:00'", flag, text)
}

// logText is a record for a person: what goes on is further in.
func logText(r logbook.Record) string {
	at := "-"
	if !r.Time.IsZero() {
		at = r.Time.Local().Format("2006-01-02 15:04:05.000")
	}
	var b strings.Builder
	b.WriteString(at)
	for _, word := range []string{r.Member, r.Job, r.Level.String()} {
		if word != "" {
			b.WriteString(" " + word)
		}
	}
	if user, database := r.Get("user"), r.Get("db"); r.Job == logbook.Postgres && user+database != "" {
		b.WriteString(" " + user + "@" + database)
	}
	b.WriteString(": " + strings.ReplaceAll(strings.TrimRight(printable(r.Text()), "\n"), "\n", "\n    ") + "\n")
	return b.String()
}

// printable keeps what a client sent from ruling the terminal.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' && c != '\n' && c != '\t' || c == 0x7f || c >= 0x80 && c < 0xa0 {
			return '\uFFFD'
		}
		return c
	}, s)
}
