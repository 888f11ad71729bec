package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/playground"
	"howdah/spec"
)

// A cluster is a playground that is broken and measured, always from outside:
// by the commands that a person has.
type cluster struct {
	program string
	dir     string
	nodes   []spec.Node
	up      time.Duration // until healthy
}

func up(ctx context.Context, program, ground string) (*cluster, error) {
	program, err := filepath.Abs(program)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "howdah-failover-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL's user has to enter
		return nil, err
	}
	c := &cluster{program: program, dir: dir}
	args := []string{"up", "--yes"}
	if ground != "" {
		args = append(args, "--ground", ground)
	}
	begin := time.Now()
	if _, err := c.howdah(ctx, args...); err != nil {
		return nil, errors.Join(err, c.purge())
	}
	c.up = time.Since(begin)
	if c.nodes, err = playground.Nodes(dir); err != nil {
		return nil, errors.Join(err, c.purge())
	}
	return c, nil
}

// purge stops the cluster and deletes it, also after an interrupt.
func (c *cluster) purge() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	_, err := c.howdah(ctx, "down", "--purge", "--yes")
	return errors.Join(err, os.RemoveAll(c.dir))
}

// howdah runs the program. It ends with 3 when the cluster is unwell, which is
// an answer too.
func (c *cluster) howdah(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.program, append([]string{"--dir", c.dir}, args...)...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 3 {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("howdah %s: %w\n%s", strings.Join(args, " "), err, complaint.Bytes())
	}
	return out.Bytes(), nil
}

// whole waits until one member leads and all others stream from its timeline,
// and names the leader.
func (c *cluster) whole(ctx context.Context) (string, error) {
	var leader string
	err := until(ctx, func() bool {
		var members []struct {
			Member, Role, State string
			TL                  int
		}
		out, err := c.howdah(ctx, "list", "--json")
		if err != nil || json.Unmarshal(out, &members) != nil {
			return false
		}
		leader = ""
		lead := slices.IndexFunc(members, func(m struct {
			Member, Role, State string
			TL                  int
		},
		) bool {
			return m.Role == "Leader"
		})
		if lead < 0 || len(members) != len(c.nodes) {
			return false
		}
		leader = members[lead].Member
		for _, m := range members {
			if m.TL != members[lead].TL || m.Role == "Leader" != (m.State == "running") || m.Role != "Leader" && m.State != "streaming" {
				return false
			}
		}
		return true
	})
	return leader, err
}

// told reads the page of the last change of leader, if this try made one, once
// it says what was lost.
func (c *cluster) told(ctx context.Context, t *Try) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var page *struct {
		At        time.Time `json:"at"`
		Reason    []string  `json:"reason"`
		LostBytes *int64    `json:"lost_bytes"`
	}
	err := until(ctx, func() bool {
		var why struct{ Failover json.RawMessage }
		out, err := c.howdah(ctx, "why", "--json")
		if err != nil || json.Unmarshal(out, &why) != nil || json.Unmarshal(why.Failover, &page) != nil || page == nil {
			return false
		}
		if page.At.Before(t.At) {
			return t.Primary[0] == t.Primary[1] // an older page: nothing changed
		}
		t.Told, t.LostBytes = page.Reason, page.LostBytes
		return page.LostBytes != nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // judged by the bounds
	}
	return err
}

// targets are the members' servers, each alone.
func (c *cluster) targets(ctx context.Context) ([]*pgconn.Config, error) {
	url, err := c.howdah(ctx, "psql", "--print-url")
	if err != nil {
		return nil, err
	}
	var hosts []*pgconn.Config
	for _, n := range c.nodes {
		config, err := pgconn.ParseConfig(strings.TrimSpace(string(url)))
		if err != nil {
			return nil, err
		}
		config.Host, config.Port, config.Fallbacks = playground.Door(n), uint16(n.Postgres.Port), nil
		hosts = append(hosts, config)
	}
	return hosts, nil
}

func (c *cluster) timers() spec.Timers { return c.nodes[0].Agent.Timers }

// environment is the line without which no number means anything.
func (c *cluster) environment(ctx context.Context, load string) string {
	version := "?"
	if out, err := c.howdah(ctx, "psql", "--", "-Atc", "show server_version"); err == nil {
		version, _, _ = strings.Cut(strings.TrimSpace(string(out)), " ")
	}
	ground := "?"
	if s, err := playground.Load(c.dir); err == nil {
		ground = string(s.Ground)
	}
	t := c.timers()
	return fmt.Sprintf("%d cores, PostgreSQL %s, %d nodes, %s ground, lease %s, renew %s, load %s",
		runtime.NumCPU(), version, len(c.nodes), ground, t.Lease, t.Renew, load)
}

// listTime is the median time of howdah list.
func (c *cluster) listTime(ctx context.Context) (time.Duration, error) {
	var times []time.Duration
	for range 11 {
		begin := time.Now()
		if _, err := c.howdah(ctx, "list"); err != nil {
			return 0, err
		}
		times = append(times, time.Since(begin))
	}
	return quantile(times, 0.5), nil
}

// pgbench finds the program beside the server's, and where the primary is now.
func (c *cluster) pgbench(ctx context.Context, args ...string) (*exec.Cmd, error) {
	out, err := c.howdah(ctx, "psql", "--print-url")
	if err != nil {
		return nil, err
	}
	config, err := pgconn.ParseConfig(strings.TrimSpace(string(out)))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(c.nodes[0].Postgres.Bin, "pgbench"), args...)
	cmd.Env = append(os.Environ(), "PGHOST="+config.Host, "PGPORT="+strconv.Itoa(int(config.Port)),
		"PGUSER="+config.User, "PGPASSWORD="+config.Password, "PGDATABASE="+config.Database, "PGCONNECT_TIMEOUT=1")
	cmd.Dir = c.dir
	return cmd, nil
}
