// Package outside drives a playground from outside: by the commands that a
// person has, and by SQL.
//
// It starts the built program and reads what it prints; a writer of numbered
// rows finds the primary by trying every member, and knows which rows were
// acknowledged when, and whether they are still there. Whatever is measured or
// tested with it holds for the program as it is shipped.
package outside

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/node"
	"howdah/node/process"
	"howdah/playground"
	"howdah/spec"
)

// A Cluster is a playground in a directory of its own.
type Cluster struct {
	Program string   // howdah
	Env     []string // of its processes; nil is ours, in a shell that was set up for another server
	Dir     string
	Nodes   []spec.Node
}

// New gives the playground a directory below the system's temporary one.
func New(program string) (*Cluster, error) {
	program, err := filepath.Abs(program)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "howdah-try-")
	if err != nil {
		return nil, err
	}
	return &Cluster{Program: program, Dir: dir}, os.Chmod(dir, 0o755) // PostgreSQL's user has to enter
}

// Up starts the cluster and waits until it is healthy.
func (c *Cluster) Up(ctx context.Context, flags ...string) error {
	if _, err := c.Howdah(ctx, append([]string{"up", "--yes"}, flags...)...); err != nil {
		return err
	}
	var err error
	c.Nodes, err = playground.Nodes(c.Dir)
	return err
}

// Purge stops the cluster and deletes it.
func (c *Cluster) Purge(ctx context.Context) error {
	_, err := c.Howdah(ctx, "down", "--purge", "--yes")
	return errors.Join(err, os.RemoveAll(c.Dir))
}

// An Answer is how a command ended.
type Answer struct {
	Code     int
	Out, Err string
}

// Run runs a command of howdah.
func (c *Cluster) Run(ctx context.Context, args ...string) (Answer, error) {
	cmd := exec.CommandContext(ctx, c.Program, append([]string{"--dir", c.Dir}, args...)...)
	var out, complaint bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = c.Env, &out, &complaint
	if cmd.Env == nil {
		cmd.Env = append(os.Environ(), "PGHOST=/nowhere", "PGPORT=1", "PGUSER=nobody", "PGPASSWORD=wrong", "PGSERVICE=none", "PGTARGETSESSIONATTRS=standby", "PGSSLROOTCERT=/nowhere")
	}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		err = nil
	}
	return Answer{cmd.ProcessState.ExitCode(), out.String(), complaint.String()}, err
}

// Howdah runs a command that has to succeed. Ending with 3, for a cluster that
// is unwell, is success too.
func (c *Cluster) Howdah(ctx context.Context, args ...string) (string, error) {
	a, err := c.Run(ctx, args...)
	if err == nil && a.Code != 0 && a.Code != 3 {
		err = fmt.Errorf("exit %d", a.Code)
	}
	if err != nil {
		return "", fmt.Errorf("howdah %s: %w\n%s", strings.Join(args, " "), err, a.Err)
	}
	return a.Out, nil
}

// A Member is a row of list.
type Member struct {
	Member   string
	Role     string
	State    string
	Timeline int `json:"TL"`
}

// List is what list prints.
func (c *Cluster) List(ctx context.Context) ([]Member, error) {
	out, err := c.Howdah(ctx, "list", "--json")
	if err != nil {
		return nil, err
	}
	var members []Member
	return members, json.Unmarshal([]byte(out), &members)
}

// Whole waits until one member leads and all others stream from its timeline,
// and names the leader.
func (c *Cluster) Whole(ctx context.Context) (leader string, err error) {
	err = Until(ctx, func() bool {
		members, err := c.List(ctx)
		leader = leads(members)
		return err == nil && len(members) == len(c.Nodes) && leader != ""
	})
	return leader, err
}

// leads names the leader of members that are whole.
func leads(members []Member) string {
	var leader Member
	for _, m := range members {
		if m.Role == "Leader" && m.State == "running" {
			leader = m
		}
	}
	for _, m := range members {
		if m != leader && (m.State != "streaming" || m.Timeline != leader.Timeline) {
			return ""
		}
	}
	return leader.Member
}

// Node is that of a member.
func (c *Cluster) Node(member string) spec.Node {
	for _, n := range c.Nodes {
		if n.Member == member {
			return n
		}
	}
	return spec.Node{}
}

// A Page is what why tells of the last change of leader.
type Page struct {
	Number    int64
	Kind      string
	From, To  string
	At        time.Time
	Reason    []string
	Outage    float64 `json:"outage_ms"` // without writes
	LostBytes *int64  `json:"lost_bytes"`
	Phases    []struct {
		Name string
		MS   float64 // after the first sign
	}
}

// Page reads the page of the last change of leader.
func (c *Cluster) Page(ctx context.Context) (Page, error) {
	out, err := c.Howdah(ctx, "why", "--json")
	if err != nil {
		return Page{}, err
	}
	var why struct{ Failover Page }
	return why.Failover, json.Unmarshal([]byte(out), &why)
}

// targets are the members' servers, each alone.
func (c *Cluster) targets(ctx context.Context) ([]*pgconn.Config, error) {
	return c.doors(ctx, func(n spec.Node) int { return n.Postgres.Port })
}

// Entries are every node's port of a service, through which clients come to
// whoever carries it.
func (c *Cluster) Entries(ctx context.Context, service string) ([]*pgconn.Config, error) {
	return c.doors(ctx, func(n spec.Node) int {
		for _, f := range n.Gateway.Fronts {
			for _, s := range f.Services {
				if s.Name == service {
					return s.Port
				}
			}
		}
		return 0
	})
}

// doors are ways to the database, one on each node that has the port.
func (c *Cluster) doors(ctx context.Context, port func(spec.Node) int) ([]*pgconn.Config, error) {
	url, err := c.Howdah(ctx, "psql", "--print-url")
	if err != nil {
		return nil, err
	}
	var hosts []*pgconn.Config
	for _, n := range c.Nodes {
		config, err := pgconn.ParseConfig(strings.TrimSpace(url))
		if err != nil {
			return nil, err
		}
		if p := port(n); p > 0 {
			config.Host, config.Port, config.Fallbacks = playground.Door(n), uint16(p), nil
			hosts = append(hosts, config)
		}
	}
	if len(hosts) == 0 {
		return nil, errors.New("no node has the port that was asked for")
	}
	return hosts, nil
}

// Door is the host at which clients find a node; "" for none of ours.
func (c *Cluster) Door(member string) string {
	for _, n := range c.Nodes {
		if n.Member == member {
			return playground.Door(n)
		}
	}
	return ""
}

// Process is that of a node's role; "node" is the supervisor, "postgres" the postmaster.
func Process(n spec.Node, role string) (process.ID, bool) {
	switch role {
	case "node":
		return node.SupervisorFile(n).Read()
	case "postgres":
		return node.Postmaster(n)
	}
	return node.RoleFile(n, role).Read()
}
