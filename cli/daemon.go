package cli

import (
	"context"

	"github.com/spf13/cobra"

	"howdah/pg"
)

// role is the verb of a daemon that runs for the node in --node.
func (a *app) role(use, short, long string, run func(context.Context, string) error) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: nothing(", but --node DIR"),
		Example: "  howdah " + use + " --node /var/lib/howdah/demo/demo-1",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return usage("%s needs --node DIR, the directory with node.json", cmd.Name())
			}
			return run(cmd.Context(), dir)
		},
	}
	cmd.Flags().StringVar(&dir, "node", "", "directory of the node")
	_ = cmd.MarkFlagDirname("node")
	return cmd
}

func (a *app) agent() *cobra.Command {
	return a.role("agent", "High availability of one PostgreSQL server",
		`Agent takes care of the PostgreSQL server of the node in DIR. "howdah node" starts it.`, a.Roles.Agent)
}

func (a *app) gateway() *cobra.Command {
	return a.role("gateway", "The way of clients to the members that serve them",
		`Gateway serves the services of the node in DIR: 5433 to the primary, 5434 to
replicas, and the others of its inventory. "howdah node" starts it and keeps its
listening sockets.`, a.Roles.Gateway)
}

func (a *app) jobs() *cobra.Command {
	return a.role("jobs", "What may wait: backups, and the metrics of the server",
		`Jobs makes and keeps the backups of the node in DIR and serves its metrics for
Prometheus, at low priority. "howdah node" starts it. Nothing waits for it: WAL is
archived without it.`, a.Roles.Jobs)
}

func (a *app) vip() *cobra.Command {
	return a.role("vip", "The virtual address, while this node leads",
		`Vip has the cluster's virtual address on the node in DIR for exactly as long as
its right to lead is provable, tells the network of it, and takes it off when it ends.
"howdah node" starts it with the two capabilities that this needs.`, a.Roles.VIP)
}

func (a *app) dns() *cobra.Command {
	return a.role("dns", "Names of clusters, roles and members, as they are now",
		`Dns answers for the names of the inventory's clusters from the node in DIR: a
cluster's name is its virtual address or its leader's, NAME-primary, NAME-replica and
NAME-offline are those who have that role now. "howdah node" starts it where the
inventory has dns_enabled.`, a.Roles.DNS)
}

func (a *app) observe() *cobra.Command {
	return a.role("observe", "The store of metrics: queries, rules and alerts",
		`Observe gathers the metrics of the clusters that the node in DIR knows, keeps them,
and answers queries on 9090 as Prometheus does. "howdah node" starts it where it is
asked for. Nothing depends on it.`, a.Roles.Observe)
}

// A Replica is what an agent asks for that wants the data of its member from a
// repository.
type Replica struct {
	Node   string // directory
	System pg.SystemID
	Dry    bool // only say what would be taken
}

// replica is for agents alone.
func (a *app) replica() *cobra.Command {
	var r Replica
	var system uint64
	cmd := &cobra.Command{
		Use: "replica", Hidden: true, Short: "Fill the empty data directory of a node from a repository, for its agent", Args: nothing(", but --node DIR"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.Node == "" || system == 0 {
				return usage("replica needs --node DIR and --system NUMBER")
			}
			r.System = pg.SystemID(system)
			return a.Roles.Replica(cmd.Context(), r, a.Err)
		},
	}
	cmd.Flags().StringVar(&r.Node, "node", "", "directory of the node")
	cmd.Flags().Uint64Var(&system, "system", 0, "system identifier that the backup must have")
	cmd.Flags().BoolVar(&r.Dry, "dry-run", false, "only say which backup would be taken")
	return cmd
}

// founding is for agents alone.
func (a *app) founding() *cobra.Command {
	dir, dry := "", false
	cmd := &cobra.Command{
		Use: "found", Hidden: true, Short: "Fill the empty data directory of a node with the backup that its new cluster begins with, for its agent", Args: nothing(", but --node DIR"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return usage("found needs --node DIR")
			}
			return a.Roles.Found(cmd.Context(), dir, dry, a.Err)
		},
	}
	cmd.Flags().StringVar(&dir, "node", "", "directory of the node")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say which backup would be taken")
	return cmd
}

// playground holds what the playground starts for itself.
func (a *app) playground() *cobra.Command {
	cmd := &cobra.Command{
		Use: "playground", Hidden: true, Short: "What a playground starts for itself",
		Args: func(*cobra.Command, []string) error { return usage("playground needs a verb: keep") },
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(&cobra.Command{
		Use: "keep", Short: "Keep the nodes of the playground in --dir running", Args: nothing(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := a.house()
			if err != nil {
				return err
			}
			return a.Roles.Keep(cmd.Context(), h.Dir)
		},
	})
	return cmd
}
