package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/machine"
	"howdah/nodefile"
	"howdah/postgres"
	"howdah/postgres/conf"
	"howdah/problem"
	"howdah/secret"
	"howdah/spec"
	"howdah/spec/apply"
	"howdah/spec/pigsty"
)

// An Inventory is a file, read.
type Inventory struct {
	World spec.World
	Dir   string // of the file: what it names is beside it
}

// ReadInventory reads what clusters are declared in a file, and what it names:
// passwords that are env:NAME or file:PATH, and baselines. An inventory with
// problems is returned with them as its error.
func ReadInventory(path string) (Inventory, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		p := &problem.Error{
			Code: "inventory-unreadable", What: "cannot read the inventory " + path,
			Do: "give the path of a YAML file; `howdah init` writes one", Err: err,
		}
		if errors.Is(err, fs.ErrNotExist) {
			p.Why, p.Err = "there is no such file", nil
		}
		return Inventory{}, p
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return Inventory{}, err
	}
	inv := Inventory{World: pigsty.Read(path, text), Dir: dir}
	if err := inv.World.Err(); err != nil {
		return inv, err
	}
	var missing []string
	find := func(of string, secrets map[string]secret.Text) {
		for name, value := range secrets {
			found, err := lookUp(value, dir)
			if err != nil {
				missing = append(missing, fmt.Sprintf("%s, %s: %s", of, name, err))
			}
			secrets[name] = found
		}
	}
	for _, o := range inv.World.Others {
		find("host "+o.Host, o.Secrets)
	}
	for i := range inv.World.Clusters {
		c := &inv.World.Clusters[i]
		find("cluster "+c.Name, c.Secrets)
		for j := range c.Objects.Databases {
			d := &c.Objects.Databases[j]
			if d.Baseline == "" || filepath.IsAbs(d.Baseline) {
				continue
			}
			file := filepath.Join(dir, "files", d.Baseline)
			if _, err := os.Stat(file); err != nil {
				file = filepath.Join(dir, d.Baseline)
			}
			if _, err := os.Stat(file); err != nil {
				missing = append(missing, fmt.Sprintf("cluster %s, database %s: its baseline %s is neither in %s nor in %s", c.Name, d.Name, d.Baseline, filepath.Join(dir, "files"), dir))
			}
			d.Baseline = file
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return inv, &problem.Error{
			Code: "inventory-files", What: "cannot find all that the inventory " + path + " names", Why: strings.Join(missing, "\n"),
			Do: "put it there, or correct the inventory; nothing was changed",
		}
	}
	return inv, nil
}

// lookUp finds a secret that the inventory only names.
func lookUp(s secret.Text, dir string) (secret.Text, error) {
	if name, ok := strings.CutPrefix(s.Reveal(), "env:"); ok {
		value, ok := os.LookupEnv(name)
		if !ok || value == "" {
			return s, fmt.Errorf("the environment has no %s", name)
		}
		return secret.Text(value), nil
	}
	if path, ok := strings.CutPrefix(s.Reveal(), "file:"); ok {
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return s, err
		}
		value := strings.TrimRight(string(text), "\r\n")
		if value == "" || strings.ContainsAny(value, "\r\n") {
			return s, fmt.Errorf("%s does not hold one line", path)
		}
		return secret.Text(value), nil
	}
	return s, nil
}

// Provision makes the roles and databases that the cluster is to have. Its
// leader must be on this machine: the superuser comes by the socket alone.
func (c *Cluster) Provision(ctx context.Context) (apply.Report, error) {
	s, err := c.State(ctx)
	if err != nil {
		return apply.Report{}, err
	}
	n, ok := c.node(s.LeaderName())
	if !ok {
		return apply.Report{}, &problem.Error{
			Code: "leader-elsewhere", What: "cannot make the roles and databases of cluster " + c.Name,
			Why: "its leader is not on this machine", Do: "run this where it is",
		}
	}
	return Provision(ctx, n)
}

// Provision makes the roles and databases of the cluster that n leads.
func Provision(ctx context.Context, n spec.Node) (apply.Report, error) {
	secrets, err := nodefile.Secrets(n)
	if err != nil {
		return apply.Report{}, err
	}
	o := apply.Order{Cluster: n.Cluster, Objects: n.Objects, Secrets: secrets, Baselines: map[string]string{}}
	for _, d := range n.Objects.Databases {
		if d.Baseline == "" {
			continue
		}
		text, err := os.ReadFile(d.Baseline)
		if err != nil {
			continue // only a new database needs it, and says so then
		}
		o.Baselines[d.Name] = string(text)
	}
	o.Connect = func(ctx context.Context, database string) (*pgconn.PgConn, error) {
		config, err := pgconn.ParseConfig("connect_timeout=5 sslmode=disable")
		if err != nil {
			return nil, err
		}
		config.Host, config.Port, config.User, config.Database = n.Paths.Sockets, uint16(n.Postgres.Port), spec.Superuser, database
		config.Password, config.Fallbacks = "", nil
		config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", filepath.Join(n.Paths.Sockets, ".s.PGSQL."+strconv.Itoa(n.Postgres.Port)))
		}
		config.RuntimeParams = map[string]string{"application_name": "howdah"}
		return pgconn.ConnectConfig(ctx, config)
	}
	return apply.Run(ctx, o)
}

// Keys makes in the house what all machines of an inventory must have alike,
// and returns the paths to copy.
func (h House) Keys(inv Inventory) ([]string, error) { return machine.Keys(h.Dir, inv.World) }

// Machine is this machine, as server parameters are computed for it.
func Machine(dir string) (conf.Machine, error) { return postgres.Machine(dir) }
