package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"howdah/control"
	"howdah/problem"
)

func (a *app) etcdAdd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "add [CLUSTER] MEMBER", Short: "Let another node carry a member of the store",
		Long: `Add starts etcd on the node of MEMBER. It joins as a member that learns, and votes
once it has what the others have. PostgreSQL and clients do not notice.

On machines the inventory's group etcd names the hosts that carry the store:
write the host there first, set its node up, and run this on it.`,
		Example: "  howdah etcd add demo-4\n  howdah etcd add demo demo-4 --dry-run",
		Args:    takes(1), ValidArgsFunction: a.completeMembers,
		RunE: a.storeChange(harmless, func(ctx context.Context, c *control.Cluster, member string) (*control.StoreChange, error) {
			return c.PlanEtcdAdd(ctx, member)
		}),
	}
	a.changeFlags(cmd)
	return cmd
}

func (a *app) etcdRemove() *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove [CLUSTER] MEMBER", Short: "Take a member out of the store",
		Long: `Remove takes MEMBER off the list of those who vote, and stops its etcd. Its data
are kept aside. It is refused when the others are no majority without it.`,
		Example: "  howdah etcd remove demo-4\n  howdah etcd remove demo demo-4 --yes",
		Args:    takes(1), ValidArgsFunction: a.completeMembers,
		RunE: a.storeChange(destructive, func(ctx context.Context, c *control.Cluster, member string) (*control.StoreChange, error) {
			return c.PlanEtcdRemove(ctx, member)
		}),
	}
	a.changeFlags(cmd)
	return cmd
}

func (a *app) etcdReplace() *cobra.Command {
	var with string
	cmd := &cobra.Command{
		Use: "replace [CLUSTER] MEMBER", Short: "Fill the place of a member that is dead or broken",
		Long: `Replace has MEMBER join anew: what it has is put aside, and it gets the data of the
others. With --with another node takes its place: that joins, and MEMBER leaves.

A member whose data directory is empty does this by itself when it starts.`,
		Example: "  howdah etcd replace demo-2\n  howdah etcd replace demo-2 --with demo-4",
		Args:    takes(1), ValidArgsFunction: a.completeMembers,
		RunE: a.storeChange(destructive, func(ctx context.Context, c *control.Cluster, member string) (*control.StoreChange, error) {
			return c.PlanEtcdReplace(ctx, member, with)
		}),
	}
	cmd.Flags().StringVar(&with, "with", "", "the node that takes its place")
	a.changeFlags(cmd)
	return cmd
}

func (a *app) etcdRecover() *cobra.Command {
	var from, confirm string
	cmd := &cobra.Command{
		Use: "recover [CLUSTER]", Short: "Begin the store anew: a majority of it is gone for ever",
		Long: `Recover lets the member that knows most (or the one named by --from) begin a store
of its own, and the others join it anew. While a majority answers it does nothing.

PostgreSQL is not stopped. Who leads is not taken from the old store, which may be
behind what the lost members knew: the leader that lives puts it back once nobody
can have been elected after it. If it does not live either, name one:
"howdah failover --to".

Nothing is deleted: what each member had is kept beside its directory. Because it
can not be undone by a command, it asks for the cluster's name.`,
		Example: "  howdah etcd recover\n  howdah etcd recover demo --from demo-3 --confirm demo",
		Args:    takes(0), ValidArgsFunction: a.completeCluster,
		RunE: a.on(func(cmd *cobra.Command, c *control.Cluster) error {
			ch, err := c.PlanEtcdRecover(cmd.Context(), from)
			if err != nil {
				return err
			}
			return a.found(cmd.Context(), c, ch, confirm)
		}),
	}
	cmd.Flags().StringVar(&from, "from", "", "the member whose data the new store begins with")
	a.foundFlags(cmd, &confirm)
	return cmd
}

func (a *app) etcdRestore() *cobra.Command {
	var on, confirm string
	cmd := &cobra.Command{
		Use: "restore [CLUSTER] FILE", Short: "Begin the store anew with a snapshot",
		Long: `Restore puts back what "howdah etcd snapshot" (or etcdctl) has saved: one member
begins a store of its own with it, and the others join it anew.

It brings configuration and history back, not who leads: that the living leader
tells, and PostgreSQL is not stopped. Nothing is deleted: what each member had is
kept beside its directory. Because it can not be undone by a command, it asks for
the cluster's name.`,
		Example: "  howdah etcd restore /var/backups/etcd-today.db\n  howdah etcd restore demo today.db --confirm demo",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := a.open(args[:len(args)-1], 0)
			if err != nil {
				return err
			}
			defer c.Close()
			ch, err := c.PlanEtcdRestore(cmd.Context(), args[len(args)-1], on)
			if err != nil {
				return err
			}
			return a.found(cmd.Context(), c, ch, confirm)
		},
	}
	cmd.Flags().StringVar(&on, "on", "", "the member that begins the new store (the first)")
	a.foundFlags(cmd, &confirm)
	return cmd
}

func (a *app) foundFlags(cmd *cobra.Command, confirm *string) {
	a.jsonFlag(cmd)
	cmd.Flags().BoolVar(&a.dry, "dry-run", false, "say what would be done, and do nothing")
	cmd.Flags().StringVar(confirm, "confirm", "", "the cluster's name: do not ask")
}

// storeChange is a verb about one member of the store.
func (a *app) storeChange(r risk, plan func(context.Context, *control.Cluster, string) (*control.StoreChange, error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, members, err := a.open(args, 1)
		if err != nil {
			return err
		}
		defer c.Close()
		if len(members) != 1 {
			return usage("etcd %s needs the name of a member", cmd.Name())
		}
		ch, err := plan(cmd.Context(), c, members[0])
		if err != nil || a.previewed(c, ch) {
			return err
		}
		if ok, err := a.sure(fmt.Sprintf("%s %s: %s", ch.Verb, ch.Member, strings.Join(ch.Steps, "; ")), r); !ok {
			return err
		}
		return a.changeStore(cmd.Context(), c, ch)
	}
}

// found begins a store anew, for somebody who knows which cluster that is.
func (a *app) found(ctx context.Context, c *control.Cluster, ch *control.StoreChange, confirm string) error {
	if a.previewed(c, ch) {
		return nil
	}
	if confirm == "" && a.Terminal {
		for _, s := range ch.Steps {
			fmt.Fprintln(a.Err, "would", s)
		}
		fmt.Fprintf(a.Err, "The store of cluster %s begins anew with %s. Type the cluster's name to go on: ", c.Name, ch.Member)
		confirm, _ = bufio.NewReader(a.In).ReadString('\n') // end of input is a no
		confirm = strings.TrimSpace(confirm)
	}
	if confirm != c.Name {
		return &problem.Error{
			Code: "confirm", What: "did not " + ch.Verb + " the store of cluster " + c.Name, Why: "it was not confirmed by the cluster's name",
			Do: "add --confirm " + c.Name + " if you mean it, or --dry-run to look first",
		}
	}
	return a.changeStore(ctx, c, ch)
}

// previewed prints what would be done, where that is all that is asked for or there
// is nothing to do.
func (a *app) previewed(c *control.Cluster, ch *control.StoreChange) bool {
	if len(ch.Steps) > 0 && !a.dry {
		return false
	}
	switch {
	case a.json:
		a.printJSON(a.Out, struct {
			Cluster string `json:"cluster"`
			Dry     bool   `json:"dry_run"`
			Done    bool   `json:"done"`
			*control.StoreChange
		}{c.Name, a.dry, false, ch})
	case len(ch.Steps) == 0:
		a.printf("nothing to do: the store of cluster %s is as it was asked for\n", c.Name)
	default:
		for _, s := range ch.Steps {
			a.printf("would %s\n", s)
		}
		for _, s := range ch.Then {
			a.printf("then  %s\n", s)
		}
	}
	return true
}

func (a *app) changeStore(ctx context.Context, c *control.Cluster, ch *control.StoreChange) error {
	err := ch.Do(ctx, func(step string) {
		if !a.json {
			a.printf("%s\n", step)
		}
	})
	if err != nil {
		return err
	}
	if a.json {
		a.printJSON(a.Out, struct {
			Cluster string `json:"cluster"`
			Done    bool   `json:"done"`
			*control.StoreChange
		}{c.Name, true, ch})
		return nil
	}
	for _, s := range ch.Then {
		a.printf("then: %s\n", s)
	}
	return nil
}
