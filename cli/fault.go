package cli

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"howdah/control"
)

func (a *app) fault() *cobra.Command {
	cmd := &cobra.Command{
		Use: "fault", Short: "Break something of the cluster on this machine",
		Long: `Fault breaks a node of the playground, as the world does it to real ones.
MEMBER may be the word primary, which is also what is meant without one.

What is frozen stays so until "thaw", a bad network until "heal"; "howdah up"
and "howdah down" undo both, and "howdah status" shows what is laid. To lay the
same fault twice changes nothing. Faults of the network need the isolated
ground, which is what root gets.`,
		Example: `  howdah fault kill-postgres
  howdah fault kill-node demo-2
  howdah fault start-node
  howdah fault freeze --role agent
  howdah fault partition primary
  howdah fault heal`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownWord(cmd, "fault", args[0])
			}
			return usage("fault needs to know which one")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	for _, f := range control.Faults {
		cmd.AddCommand(a.oneFault(f.Name, f.Does))
	}
	return cmd
}

// What a fault does is told where one verb alone does not tell it.
var faultHelp = map[string]struct{ long, example string }{
	"freeze": {
		long: `Freeze stops a whole node, or one role of it, where it stands (SIGSTOP).

The whole node is a virtual machine that is paused: every process of it and, on
the isolated ground, its network. Its memory stays, and so do the clients'
connections. Of a role, the process is stopped, the network is not: agent,
etcd, gateway (where the node has one), or postgres, which is the postmaster
and every backend. An agent that leads lets its own PostgreSQL go on at once;
freeze the agent first to keep it frozen.`,
		example: `  howdah fault freeze                        the primary's node
  howdah fault freeze demo-2
  howdah fault freeze --role agent           only the agent of the primary
  howdah fault freeze demo-3 --role etcd`,
	},
	"thaw": {
		long: `Thaw lets go on what "fault freeze" stopped. Without a member it is all that is
frozen. What the guard froze, because its lease was over, stays frozen.`,
		example: `  howdah fault thaw
  howdah fault thaw demo-1 --role agent`,
	},
	"partition": {
		long: `Partition cuts a node off, both ways: frames are lost, no connection is reset,
the link stays up. Without --from it is cut off from every other node and from
this machine, whose 127.x addresses are doors to the nodes; processes inside the
node go on talking to each other.

With --from only the wires to those peers are cut: members, or the word doors.
A primary cut off from the other members but not from its clients is the
partition that splits brains.`,
		example: `  howdah fault partition
  howdah fault partition demo-1 --from demo-2,demo-3
  howdah fault partition demo-1 --from doors`,
	},
	"one-way": {
		long: `One-way loses frames in one direction: with --to what the node sends to the
peers, with --from what the peers send to it. A peer is a member, or the word
doors for this machine and its clients; all is everybody.`,
		example: `  howdah fault one-way primary --to all          it can not send
  howdah fault one-way primary --from all        it can not hear
  howdah fault one-way demo-1 --to demo-2`,
	},
	"slow": {
		long: `Slow makes the network of a node bad, in each direction: every frame comes
later by --delay, not more than --rate passes, --loss of the frames are lost.
All three may be given; given again, the new ones hold instead of the old. At
least half a second of traffic, and 256 kB, wait where the rate is too small;
what does not fit is lost. The playground's own process carries the frames, so
that no module of the kernel is needed.`,
		example: `  howdah fault slow --delay 50ms
  howdah fault slow demo-2 --rate 1mbit
  howdah fault slow demo-2 --delay 5ms --loss 2%`,
	},
	"heal": {
		long: `Heal takes partition, one-way and slow off a node; without a member, off every
node. What was on its way is sent again by whoever sent it, as after a real cut.`,
		example: `  howdah fault heal
  howdah fault heal demo-1`,
	},
}

func (a *app) oneFault(name, does string) *cobra.Command {
	var o control.FaultOptions
	var rate, loss string
	cmd := &cobra.Command{
		Use: name + " [CLUSTER] [MEMBER…]", Short: sentence(does),
		Example: "  howdah fault " + name + "\n  howdah fault " + name + " demo-2",
		Args:    takes(many), ValidArgsFunction: a.completeMembers,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := complete(&o, name, rate, loss); err != nil {
				return err
			}
			h, err := a.house()
			if err != nil {
				return err
			}
			clusterName, members := split(h, args, many)
			f, err := h.PlanFault(cmd.Context(), clusterName, name, o, members...)
			if err != nil {
				return err
			}
			return a.breakIt(cmd, f)
		},
	}
	if help, ok := faultHelp[name]; ok {
		cmd.Long, cmd.Example = help.long, help.example
	}
	flags := cmd.Flags()
	switch name {
	case "freeze":
		flags.StringVar(&o.Role, "role", "", "only this role: agent, postgres, etcd, gateway; node is the whole node (default)")
	case "thaw":
		flags.StringVar(&o.Role, "role", "", "only this role (default: all that is frozen)")
	case "partition":
		flags.StringSliceVar(&o.From, "from", nil, "only from these peers: members, doors, all (default all)")
	case "one-way":
		flags.StringSliceVar(&o.To, "to", nil, "lose what it sends to these peers: members, doors, all")
		flags.StringSliceVar(&o.From, "from", nil, "lose what these peers send to it")
	case "slow":
		flags.DurationVar(&o.Slow.Delay, "delay", 0, "every frame comes so much later, each way: 50ms")
		flags.StringVar(&rate, "rate", "", "so much passes in a second: 1mbit, 500kbit")
		flags.StringVar(&loss, "loss", "", "so many frames are lost: 2%")
	}
	for _, flag := range []string{"to", "from"} {
		if flags.Lookup(flag) != nil {
			_ = cmd.RegisterFlagCompletionFunc(flag, a.completePeers) // the flag was just made
		}
	}
	if flags.Lookup("role") != nil {
		_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(
			[]string{"agent", "postgres", "etcd", "gateway", "node"}, cobra.ShellCompDirectiveNoFileComp))
	}
	a.changeFlags(cmd)
	return cmd
}

// breakIt does what was planned, or says that there is nothing to do.
func (a *app) breakIt(cmd *cobra.Command, f *control.Fault) error {
	if f.Nothing() {
		if a.json {
			a.printJSON(a.Out, map[string]any{"fault": f.Name, "members": []string{}})
			return nil
		}
		a.printf("nothing to %s\n", f.Name)
		return nil
	}
	if ok, err := a.sure(f.String(), harmless); !ok {
		return err
	}
	at := time.Now()
	if err := f.Do(cmd.Context()); err != nil {
		return err
	}
	if a.json {
		a.printJSON(a.Out, map[string]any{"fault": f.Name, "members": f.Members, "primary": f.Primary, "at": at})
		return nil
	}
	a.printf("%s: done at %s; see `howdah status` and `howdah why`\n", f, at.Format("15:04:05.000"))
	return nil
}

// complete reads what the flags of a fault say, and refuses what says nothing.
func complete(o *control.FaultOptions, name, rate, loss string) (err error) {
	switch name {
	case "one-way":
		if len(o.To) == 0 && len(o.From) == 0 {
			return usage("one-way needs a direction: --to or --from, with members, doors or all")
		}
	case "slow":
		if o.Slow.Rate, err = parseRate(rate); err != nil {
			return err
		}
		if o.Slow.Loss, err = parseLoss(loss); err != nil {
			return err
		}
		if o.Slow.Delay < 0 || o.Slow.Delay > time.Minute {
			return usage("--delay %s: between 0 and a minute", o.Slow.Delay)
		}
		if o.Slow == (control.Slow{}) {
			return usage("slow needs to know how slow: --delay, --rate or --loss")
		}
	}
	for _, names := range [][]string{o.To, o.From} {
		if slices.Contains(names, "") {
			return usage("a peer has no name")
		}
	}
	return nil
}

// parseRate reads bits a second as tc(8) writes them, and gives bytes.
func parseRate(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	number := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyz")
	unit, ok := map[string]float64{"bit": 1, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}[s[len(number):]]
	n, err := strconv.ParseFloat(number, 64)
	bytes := n * unit / 8
	if err != nil || !ok || !(bytes >= 1000 && bytes <= 1e12) {
		return 0, usage("--rate %s: give a number of kbit, mbit or gbit a second, from 8kbit on", s)
	}
	return int64(bytes), nil
}

func parseLoss(s string) (float64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil || !(n >= 0 && n <= 100) {
		return 0, usage("--loss %s: give a percentage, 2%%", s)
	}
	return n / 100, nil
}

// completePeers offers who can be at the other end of a wire.
func (a *app) completePeers(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	h, err := a.house()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	words := append(members(cmd.Context(), h, ""), control.DoorPeers, control.AllPeers)
	return words, cobra.ShellCompDirectiveNoFileComp
}
