package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/playground"
	"howdah/spec"
	"howdah/test/outside"
)

// A cluster is what is broken and measured.
type cluster struct {
	*outside.Cluster
	up time.Duration // until healthy
}

func up(ctx context.Context, program, ground, loss string) (*cluster, error) {
	c, err := outside.New(program)
	if err != nil {
		return nil, err
	}
	var flags []string
	if ground != "" {
		flags = append(flags, "--ground", ground)
	}
	if loss != "" {
		flags = append(flags, "--max-loss", loss)
	}
	begin := time.Now()
	if err := c.Up(ctx, flags...); err != nil {
		return nil, fmt.Errorf("%w (its logs are in %s)", err, c.Dir)
	}
	return &cluster{c, time.Since(begin)}, nil
}

// end deletes the cluster, also after an interrupt.
func (c *cluster) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return c.Purge(ctx)
}

// told reads the page of the last change of leader, if this try made one, and
// gives it time to say what was lost.
func (c *cluster) told(ctx context.Context, t *Try) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = outside.Until(ctx, func() bool { // too late is judged with the bounds
		page, err := c.Page(ctx)
		if err != nil {
			return false
		}
		if page.At.Before(t.At) {
			return t.Leaders[0] == t.Leaders[1] // an older page: nothing changed
		}
		t.Told, t.LostBytes = page.Reason, page.LostBytes
		t.Page = time.Duration(page.Outage * float64(time.Millisecond))
		return page.LostBytes != nil
	})
}

func (c *cluster) timers() spec.Timers { return c.Nodes[0].Agent.Timers }

// environment is the line without which no number means anything.
func (c *cluster) environment(ctx context.Context, through, load string) string {
	version, err := c.Howdah(ctx, "psql", "--", "-Atc", "show server_version")
	if err != nil {
		version = "unknown"
	}
	version, _, _ = strings.Cut(strings.TrimSpace(version), " ")
	ground := "unknown"
	if s, err := playground.Load(c.Dir); err == nil {
		ground = string(s.Ground)
	}
	way := "straight at the servers"
	if through != "" {
		way = "through service " + through
	}
	waiting := "commits wait for nobody"
	if config, err := c.Howdah(ctx, "show-config", "--json"); err == nil && strings.Contains(config, `"quorum"`) {
		waiting = "quorum commit"
	}
	t := c.timers()
	return fmt.Sprintf("%d cores, PostgreSQL %s, %d nodes, %s ground, %s, lease %s, renew %s, written %s, load %s",
		runtime.NumCPU(), version, len(c.Nodes), ground, waiting, t.Lease, t.Renew, way, load)
}

// listTime is the median time of howdah list.
func (c *cluster) listTime(ctx context.Context) (time.Duration, error) {
	var times []time.Duration
	for range 11 {
		begin := time.Now()
		if _, err := c.Howdah(ctx, "list"); err != nil {
			return 0, err
		}
		times = append(times, time.Since(begin))
	}
	return quantile(times, 0.5), nil
}

// pgbench is the program beside the server's, aimed at the primary of now.
func (c *cluster) pgbench(ctx context.Context, args ...string) (*exec.Cmd, error) {
	out, err := c.Howdah(ctx, "psql", "--print-url")
	if err != nil {
		return nil, err
	}
	config, err := pgconn.ParseConfig(strings.TrimSpace(out))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(c.Nodes[0].Postgres.Bin, "pgbench"), args...)
	cmd.Env = append(os.Environ(), "PGHOST="+config.Host, "PGPORT="+strconv.Itoa(int(config.Port)),
		"PGUSER="+config.User, "PGPASSWORD="+config.Password, "PGDATABASE="+config.Database, "PGCONNECT_TIMEOUT=1")
	cmd.Dir = c.Dir
	return cmd, nil
}
