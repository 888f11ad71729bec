package cli

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"howdah/control"
	"howdah/problem"
)

func (a *app) etcd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "etcd", Short: "The embedded store",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownWord(cmd, "verb", args[0])
			}
			return usage("etcd needs a verb: status, add, remove, replace, recover, snapshot, restore, defrag, serve")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	serve := a.role("serve", "Serve one member of etcd",
		`Serve runs the etcd member of the node in DIR. "howdah node" starts it.`, a.Roles.Etcd)
	serve.Example = "  howdah etcd serve --node /var/lib/howdah/demo/demo-1"
	cmd.AddCommand(a.etcdStatus(), a.etcdAdd(), a.etcdRemove(), a.etcdReplace(), a.etcdRecover(), a.etcdSnapshot(), a.etcdRestore(), a.etcdDefrag(), serve)
	return cmd
}

func (a *app) etcdStatus() *cobra.Command {
	cmd := &cobra.Command{
		Use: "status [CLUSTER]", Short: "The members of the store, as each answers now",
		Long: `Status asks each member of etcd how it is. A majority of them has to be up for
anything to change: who leads, who is elected, what is configured. PostgreSQL's
sessions do not need it.

It ends with 3 when a member is down or complains.`,
		Example: "  howdah etcd status\n  howdah etcd status --json",
		Args:    takes(0), ValidArgsFunction: a.completeCluster,
		RunE: a.on(func(cmd *cobra.Command, c *control.Cluster) error {
			members := c.Etcd(cmd.Context())
			if a.json {
				a.printJSON(a.Out, members)
			} else {
				a.printf("%s", etcdTable(members))
			}
			for _, m := range members {
				if !m.Up || len(m.Ill) > 0 {
					return errUnhealthy
				}
			}
			return nil
		}),
	}
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) etcdDefrag() *cobra.Command {
	cmd := &cobra.Command{
		Use: "defrag [CLUSTER]", Short: "Give back the room that the store's past takes, and end the alarm of a full store",
		Long: `Defrag drops what was overwritten (compaction) and writes the file of each member
anew, the leader's last, one at a time: a member answers nobody meanwhile, so all
have to be up. Where there is room then, the alarm NOSPACE is taken back, with which
etcd refuses every write. PostgreSQL and who leads go on.`,
		Example: "  howdah etcd defrag\n  howdah etcd defrag demo --json",
		Args:    takes(0), ValidArgsFunction: a.completeCluster,
		RunE: a.on(func(cmd *cobra.Command, c *control.Cluster) error {
			_, after, err := c.EtcdDefrag(cmd.Context(), func(m control.EtcdMember) {
				if !a.json {
					a.printf("%s: %.1f MB\n", m.Name, float64(m.Bytes)/(1<<20))
				}
			})
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(a.Out, after)
			} else {
				a.printf("%s", etcdTable(after))
			}
			return nil
		}),
	}
	a.jsonFlag(cmd)
	return cmd
}

func etcdTable(members []control.EtcdMember) string {
	t := table{
		columns: []string{"Member", "URL", "State", "Version", "MB", "In use", "Quota", "Term", "Index"},
		right:   map[string]bool{"MB": true, "In use": true, "Quota": true, "Term": true, "Index": true},
	}
	mb := func(n int64) string { return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) }
	for _, m := range members {
		row := []string{m.Name, m.URL, "down", "", "", "", "", "", ""}
		if m.Up {
			state := "follows"
			if m.Leads {
				state = "leads"
			}
			if len(m.Ill) > 0 {
				state += ", " + strings.Join(m.Ill, ", ")
			}
			row = []string{
				m.Name, m.URL, state, m.Version, mb(m.Bytes), mb(m.InUse), mb(m.Quota),
				strconv.FormatInt(m.Term, 10), strconv.FormatInt(m.Index, 10),
			}
		}
		t.rows = append(t.rows, row)
	}
	text := t.String()
	for _, m := range members {
		if !m.Up {
			text += " " + m.Name + ": " + m.Why + "\n"
		}
	}
	return text
}

func (a *app) etcdSnapshot() *cobra.Command {
	cmd := &cobra.Command{
		Use: "snapshot [CLUSTER] FILE", Short: "Copy the whole store into a file",
		Long: `Snapshot writes what "etcdctl snapshot save" writes, and "etcdutl snapshot
restore" reads it: the keys of every cluster that shares the store. Its checksum
is verified. FILE must not exist; it is there when it is whole, or not at all.`,
		Example: "  howdah etcd snapshot /var/backups/etcd-today.db",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := args[len(args)-1]
			c, _, err := a.open(args[:len(args)-1], 0)
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := os.Lstat(file); err == nil {
				return exists(file)
			}
			aside, err := os.OpenFile(file+".part", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
			if err != nil {
				return err
			}
			defer os.Remove(aside.Name())
			defer aside.Close()
			from, bytes, err := c.EtcdSnapshot(cmd.Context(), aside)
			if err != nil {
				return err
			}
			err = errors.Join(aside.Truncate(bytes), aside.Sync())
			if err == nil {
				err = os.Link(aside.Name(), file) // does not replace what somebody made meanwhile
			}
			if errors.Is(err, os.ErrExist) {
				return exists(file)
			}
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(a.Out, map[string]any{"cluster": c.Name, "file": file, "bytes": bytes, "from": from})
			} else {
				a.printf("%s: %d bytes, from %s\n", file, bytes, from)
			}
			return nil
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

func exists(file string) error {
	return &problem.Error{Code: "file-exists", What: "cannot write " + file, Why: "it is there", Do: "name another file"}
}
