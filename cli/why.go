package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"howdah/cluster"
	"howdah/control"
)

func (a *app) why() *cobra.Command {
	var number int64
	cmd := &cobra.Command{
		Use: "why [CLUSTER] [MEMBER…]", Short: "What was decided last, and why",
		Long: `Why prints the last decision of each member with the facts that led to it, and
the page of the last change of leader: what was seen, what was done, and when,
in milliseconds after the first sign. While a change is under way it waits two
seconds for the page, and says so if that is still to come.`,
		Example: `  howdah why
  howdah why demo-2
  howdah why --failover 3`,
		SuggestFor: []string{"explain"},
		Args:       takes(0), ValidArgsFunction: a.completeCluster,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("failover") && number < 1 {
				return usage("--failover %d: failovers count from 1", number)
			}
			c, members, err := a.open(args, many)
			if err != nil {
				return err
			}
			defer c.Close()
			if number > 0 {
				page, err := c.Failover(cmd.Context(), number)
				switch {
				case err != nil:
					return err
				case a.json:
					a.printJSON(a.Out, whyJSON(control.Why{Page: &page}))
				default:
					a.printf("%s", pageText(page))
				}
				return nil
			}
			w, err := c.Why(cmd.Context(), members...)
			switch {
			case err != nil:
				return err
			case a.json:
				a.printJSON(a.Out, whyJSON(w))
			default:
				a.printf("%s", whyText(w, time.Now()))
			}
			return nil
		},
	}
	cmd.Flags().Int64Var(&number, "failover", 0, "the page of this change of leader")
	a.jsonFlag(cmd)
	return cmd
}

type whyMember struct {
	Member string `json:"member"`
	cluster.Why
}

type whyPage struct {
	Number int64   `json:"number"`
	Outage float64 `json:"outage_ms"` // without writes
	cluster.FailoverPage
}

func whyJSON(w control.Why) any {
	out := struct {
		Members  []whyMember `json:"members,omitempty"`
		Underway string      `json:"underway,omitempty"` // a change of leader that failover does not tell yet
		Failover *whyPage    `json:"failover"`
	}{Underway: w.Underway}
	for _, m := range w.Members {
		out.Members = append(out.Members, whyMember{m.Member, m})
	}
	if w.Page != nil {
		out.Failover = &whyPage{w.Page.Number, ms(w.Page.Outage()), *w.Page}
	}
	return out
}

func whyText(w control.Why, now time.Time) string {
	var b strings.Builder
	for _, m := range w.Members {
		fmt.Fprintf(&b, "%s decided %s (%s, epoch %d)\n", m.Member, ago(now.Sub(m.At)), clock(m.At), m.Epoch)
		fmt.Fprintf(&b, "  saw      %s\n", orNothing(m.Trail))
		fmt.Fprintf(&b, "  so       %s\n", orNothing(m.Actions))
		if len(m.Waiting) > 0 {
			fmt.Fprintf(&b, "  waits    %s\n", strings.Join(m.Waiting, "; "))
		}
		for _, p := range m.Problems {
			fmt.Fprintf(&b, "  problem  %s\n", problemText(p, 11))
		}
	}
	if len(w.Members) == 0 {
		b.WriteString("no member has published a decision yet\n")
	}
	if w.Underway != "" {
		fmt.Fprintf(&b, "\nA change of leader is under way: %s. Its page comes when it has ended.\n", w.Underway)
	}
	if w.Page != nil {
		b.WriteString("\n" + pageText(*w.Page))
	}
	return b.String()
}

func orNothing(words []string) string {
	if len(words) == 0 {
		return "nothing to do"
	}
	return strings.Join(words, ", ")
}

func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05.000") }

// pageText tells one change of leader.
func pageText(p cluster.FailoverPage) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Change of leader %d: %s, ", p.Number, p.Kind)
	switch {
	case p.From == "" || p.From == p.To:
		b.WriteString(p.To)
	default:
		b.WriteString(p.From + " -> " + p.To)
	}
	fmt.Fprintf(&b, " (epoch %d, timeline %d)\n", p.Epoch, p.Timeline)
	fmt.Fprintf(&b, "  at       %s\n", clock(p.At))
	for i, r := range p.Reason {
		word := "because"
		if i > 0 {
			word = "then"
		}
		fmt.Fprintf(&b, "  %-8s %s\n", word, r)
	}
	before := time.Duration(0)
	for i, phase := range p.Phases {
		word := ""
		if i == 0 {
			word = "took"
		}
		fmt.Fprintf(&b, "  %-8s %9.1f ms  %s (+%.1f)\n", word, ms(phase.After), phase.Name, ms(phase.After-before))
		before = phase.After
	}
	if d := p.Outage(); d > 0 {
		fmt.Fprintf(&b, "  outage   %9.1f ms  without writes\n", ms(d))
	}
	switch {
	case p.LostBytes == nil && (p.From == "" || p.From == p.To):
	case p.LostBytes == nil:
		b.WriteString("  lost     not known (yet): the old leader has not come back to compare its log\n")
	case *p.LostBytes == 0:
		b.WriteString("  lost     nothing\n")
	default:
		fmt.Fprintf(&b, "  lost     %s of log that no later leader has\n", bytes(*p.LostBytes))
	}
	return b.String()
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
