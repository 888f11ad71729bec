package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/cluster"
	"howdah/machine"
	"howdah/nodefile"
	"howdah/postgres"
	"howdah/postgres/conf"
	"howdah/problem"
	"howdah/secret"
	"howdah/spec"
	"howdah/spec/apply"
	"howdah/spec/pigsty"
	"howdah/spec/plan"
)

// An Inventory is a file, read.
type Inventory struct {
	World spec.World
	Dir   string // of the file: what it names is beside it
	Text  []byte

	Beside    []string // files that it names by a path from Dir on, which must come along when it is copied
	Elsewhere []string // what it names that no copy of it would find: env:NAME, file:/absolute, command:PROGRAM
}

// ReadInventory reads what clusters are declared in a file, or in the database of a
// CMDB (postgresql://…), and what it names:
// passwords that are env:NAME, file:PATH or command:PROGRAM ARGUMENTS, and baselines. An inventory with
// problems is returned with all of them as its error.
func ReadInventory(path string) (Inventory, error) { return readInventory(path, func(*spec.World) {}) }

func readInventory(path string, judge func(*spec.World)) (Inventory, error) {
	if inDatabase(path) {
		return readCMDB(path, judge)
	}
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
	return parseInventory(path, text, &teller{dir: dir, refuse: ownInventory(path)}, judge)
}

// parseInventory reads the text of a file in t.dir.
func parseInventory(path string, text []byte, t *teller, judge func(*spec.World)) (Inventory, error) {
	dir := t.dir
	inv := Inventory{World: pigsty.Read(path, text), Dir: dir, Text: text}
	judge(&inv.World)
	var missing []string
	find := func(of string, secrets map[string]secret.Text) {
		for name, value := range secrets {
			inv.names(value)
			found, err := t.lookUp(value)
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
			beside := d.Baseline
			file := filepath.Join(dir, "files", d.Baseline)
			if _, err := os.Stat(file); err != nil {
				file = filepath.Join(dir, d.Baseline)
			} else {
				beside = filepath.Join("files", d.Baseline)
			}
			inv.beside(beside)
			if _, err := os.Stat(file); err != nil {
				missing = append(missing, fmt.Sprintf("cluster %s, database %s: its baseline %s is neither in %s nor in %s", c.Name, d.Name, d.Baseline, filepath.Join(dir, "files"), dir))
			}
			d.Baseline = file
		}
	}
	slices.Sort(missing)
	if inv.World.Err() != nil {
		for _, text := range missing {
			inv.World.Say(spec.Finding{Kind: spec.Problem, Text: text})
		}
		return inv, inv.World.Err()
	}
	if len(missing) > 0 {
		return inv, &problem.Error{
			Code: "inventory-files", What: "cannot find all that the inventory " + path + " names", Why: strings.Join(missing, "\n"),
			Do: "put it there, or correct the inventory; nothing was changed",
		}
	}
	return inv, nil
}

// names notes what a secret is a reference to.
func (inv *Inventory) names(s secret.Text) {
	if command, ok := strings.CutPrefix(s.Reveal(), "command:"); ok {
		program, _, _ := strings.Cut(strings.TrimSpace(command), " ")
		inv.Elsewhere = append(inv.Elsewhere, "command:"+program)
	}
	if strings.HasPrefix(s.Reveal(), "env:") {
		inv.Elsewhere = append(inv.Elsewhere, s.Reveal())
	}
	if path, ok := strings.CutPrefix(s.Reveal(), "file:"); ok {
		inv.beside(path)
	}
}

// beside notes a file that must be where the inventory is.
func (inv *Inventory) beside(path string) {
	to := &inv.Beside
	if !filepath.IsLocal(path) {
		to, path = &inv.Elsewhere, "file:"+path
	}
	if !slices.Contains(*to, path) {
		*to = append(*to, path)
	}
}

// lookUp finds a secret that the inventory only names.
func (t *teller) lookUp(s secret.Text) (secret.Text, error) {
	if command, ok := strings.CutPrefix(s.Reveal(), "command:"); ok {
		found, err := t.command(command)
		if err != nil {
			return s, err
		}
		return found, nil
	}
	if name, ok := strings.CutPrefix(s.Reveal(), "env:"); ok {
		value, ok := os.LookupEnv(name)
		if !ok || value == "" {
			return s, fmt.Errorf("the environment has no %s", name)
		}
		return secret.Text(value), nil
	}
	if path, ok := strings.CutPrefix(s.Reveal(), "file:"); ok {
		if !filepath.IsAbs(path) {
			path = filepath.Join(t.dir, path)
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

// leaderWithin is how long a lost primary's work waits for the next one: until
// then the store shows the one that was lost, for as long as its lease.
const leaderWithin = 2 * time.Minute

// A Provisioning is how roles and databases are made.
type Provisioning struct {
	What   string // for the record: "up", "apply pigsty.yml"
	Prune  bool
	Before func(plan.Step) error
	After  func(plan.Step, error)
}

// Provision makes the roles and databases that the cluster is to have, and goes
// where its leader goes meanwhile. That must be on this machine: the superuser
// comes by the socket alone.
func (c *Cluster) Provision(ctx context.Context, p Provisioning) (apply.Report, error) {
	j := c.journal(p.What)
	report, err := c.provision(ctx, p, j)
	return report, errors.Join(err, j.end(ctx))
}

// PlanProvision says what Provision would do now, on the same machine.
func (c *Cluster) PlanProvision(ctx context.Context) (plan.Plan, error) {
	if s, err := c.State(ctx); err == nil && s.Standby() {
		return plan.Plan{}, nil // what it has is a copy of another's
	}
	n, err := c.leaderHere(ctx)
	if err != nil {
		return plan.Plan{}, err
	}
	o, err := order(n, nil)
	if err != nil {
		return plan.Plan{}, err
	}
	return apply.Plan(ctx, o)
}

func (c *Cluster) provision(ctx context.Context, p Provisioning, j *journal) (apply.Report, error) {
	if s, err := c.State(ctx); err == nil && s.Standby() {
		return apply.Report{}, nil // what it has is a copy of another's
	}
	var all apply.Report
	got := c.now() // when the work got on
	for {
		n, err := c.leaderHere(ctx)
		if err != nil {
			return all, err
		}
		o, err := order(n, nil)
		if err != nil {
			return all, err
		}
		o.Prune, o.Before = p.Prune, p.Before // asked of nobody, steps are taken together
		o.After = func(s plan.Step, err error) {
			if err == nil {
				j.note(ctx, s.Done(), nil)
			} else {
				j.note(ctx, s.What, err)
			}
			if p.After != nil {
				p.After(s, err)
			}
		}
		r, err := apply.Run(ctx, o)
		if r.Known != nil && !maps.Equal(r.Known, o.Known) {
			keepKnown(n, r.Known)
		}
		all.Done = append(all.Done, r.Done...)
		all.Missing, all.Cannot, all.Left = r.Missing, r.Cannot, r.Left
		if len(r.Done) > 0 {
			got = c.now()
		}
		if !errors.Is(err, apply.ErrLost) || c.now().Sub(got) > leaderWithin || ctx.Err() != nil {
			return all, err
		}
		if err := c.awaitLeader(ctx); err != nil {
			return all, err
		}
	}
}

// awaitLeader waits until somebody leads and writes.
func (c *Cluster) awaitLeader(ctx context.Context) error {
	const pause = 200 * time.Millisecond // the store may still show the one before
	ctx, cancel := context.WithTimeout(ctx, leaderWithin)
	defer cancel()
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
	err := c.watch(ctx, func(s cluster.State) bool {
		m, ok := s.Member(s.LeaderName())
		return ok && m.Role == cluster.RolePrimary && m.Running()
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return &problem.Error{
			Code: "leader-none", What: "cannot go on with cluster " + c.Name, Why: "it has had no leader for " + leaderWithin.String(),
			Do: "see `howdah why " + c.Name + "`; given again when it has one, the same command does what is left",
		}
	}
	return err
}

// leaderHere is the node that leads, which has to be on this machine.
func (c *Cluster) leaderHere(ctx context.Context) (spec.Node, error) {
	s, err := c.State(ctx)
	if err != nil {
		return spec.Node{}, err
	}
	n, ok := c.node(s.LeaderName())
	if !ok && s.LeaderName() == "" {
		if err := c.awaitLeader(ctx); err != nil {
			return n, err
		}
		return c.leaderHere(ctx)
	}
	if !ok {
		return n, &problem.Error{
			Code: "leader-elsewhere", What: "cannot make the roles and databases of cluster " + c.Name,
			Why: "its leader " + s.LeaderName() + " is not on this machine", Do: "run this where it is",
		}
	}
	return n, nil
}

// knownFile is where it is kept which passwords were found to be what the server
// stores of them, beside the passwords: marks, that say nothing of either.
func knownFile(n spec.Node) string {
	return filepath.Join(filepath.Dir(n.Paths.Secrets), "checked.json")
}

func knownPasswords(n spec.Node) map[string]bool {
	known := map[string]bool{}
	var marks []string
	if b, err := os.ReadFile(knownFile(n)); err == nil && json.Unmarshal(b, &marks) == nil {
		for _, m := range marks {
			known[m] = true
		}
	}
	return known
}

// keepKnown does so. What can not be kept is checked again the next time.
func keepKnown(n spec.Node, known map[string]bool) {
	if b, err := json.Marshal(slices.Sorted(maps.Keys(known))); err == nil {
		_ = nodefile.WriteFile(knownFile(n), append(b, '\n'), 0o600, -1, -1)
	}
}

// order is what the server of n is to hold. given are an inventory's passwords
// that are not with the node yet.
func order(n spec.Node, given map[string]secret.Text) (apply.Order, error) {
	secrets, err := nodefile.Secrets(n)
	if err != nil {
		return apply.Order{}, err
	}
	for name, value := range given {
		if value != "" {
			secrets[name] = value
		}
	}
	o := apply.Order{Cluster: n.Cluster, Objects: n.Objects, Secrets: secrets, Baselines: map[string]string{}, Known: knownPasswords(n)}
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
	return o, nil
}

// Keys makes in the house what all machines of an inventory must have alike,
// and returns the paths to copy.
func (h House) Keys(inv Inventory) ([]string, error) { return machine.Keys(h.Dir, inv.World) }

// Machine is this machine, as server parameters are computed for it.
func Machine(dir string) (conf.Machine, error) { return postgres.Machine(dir) }
