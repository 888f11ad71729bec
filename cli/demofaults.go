package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"howdah/control"
)

func (a *app) demoFaults() *cobra.Command {
	var only []string
	cmd := &cobra.Command{
		Use: "demo-faults [CLUSTER]", Short: "Try every fault, and print what each costs",
		Long: `Demo-faults lays one fault after another on the primary of the playground, while
a writer inserts a row every 5 ms, and takes each off again. It prints the
longest time without an acknowledged row, how many acknowledged rows were lost,
and why, in the words of "howdah why". It takes about three minutes, leaves
the cluster whole, and the table demo_faults in it.

In a cluster whose commits wait for nobody (up --max-loss) a primary that is lost
with its host or its network may take along what it acknowledged and had not sent.`,
		Example: `  howdah demo-faults
  howdah demo-faults --only partition,one-way
  howdah demo-faults --json | jq -r '.faults[] | [.fault, .outage_ms] | @tsv'`,
		Args: takes(0), ValidArgsFunction: a.completeCluster,
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.house()
			if err != nil {
				return err
			}
			name, _ := split(h, args, 0)
			d, err := h.PlanDemo(name, only...)
			if err != nil {
				return err
			}
			if ok, err := a.sure(d.String(), harmless); !ok {
				return err
			}
			began := time.Now()
			err = d.Run(cmd.Context(), func(s control.Shown) {
				if !a.json {
					a.printf("%6.1f s  %-27s %s\n", time.Since(began).Seconds(), s.Fault, shownText(s))
				}
			})
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(a.Out, d)
				return nil
			}
			a.printf("\n%sThe writer went through %s. `howdah why --failover N` shows a change of leader with its milliseconds.\n", demoTable(d.Shown), d.Through)
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&only, "only", nil, "only these: "+strings.Join(control.DemoFaults(), ", "))
	_ = cmd.RegisterFlagCompletionFunc("only", cobra.FixedCompletions(control.DemoFaults(), cobra.ShellCompDirectiveNoFileComp))
	a.changeFlags(cmd)
	return cmd
}

func shownText(s control.Shown) string {
	if s.Skip != "" {
		return "not tried: " + s.Skip
	}
	return fmt.Sprintf("%5d ms  %s", s.Outage.Milliseconds(), s.Why)
}

func demoTable(shown []control.Shown) string {
	t := table{
		title: " Faults on the primary ", columns: []string{"Fault", "Outage ms", "Leader", "Rows", "Lost"},
		right: map[string]bool{"Outage ms": true, "Rows": true, "Lost": true},
	}
	for _, s := range shown {
		if s.Skip != "" {
			t.rows = append(t.rows, []string{s.Fault, "not tried", "", "", ""})
			continue
		}
		leader := s.From + " stays"
		if s.To != s.From {
			leader = s.From + " -> " + s.To
		}
		t.rows = append(t.rows, []string{
			s.Fault, strconv.FormatInt(s.Outage.Milliseconds(), 10), leader, strconv.Itoa(s.Rows), strconv.Itoa(s.Lost),
		})
	}
	return t.String()
}
