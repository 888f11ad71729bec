package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/test/outside"
)

// Idle is what a cluster without work costs.
type Idle struct {
	Over  time.Duration   `json:"over_ns"`
	Roles map[string]Role `json:"roles"` // of the node where each costs most
	Node  Role            `json:"node"`  // the roles that keep a server available, together, of the node that costs most
}

// bounded are the roles whose cost together is bounded; what carries clients
// costs what they ask for.
var bounded = map[string]bool{"agent": true, "etcd": true, "node": true}

// A Role is a process of ours.
type Role struct {
	RSS int64   `json:"rss"` // bytes
	CPU float64 `json:"cpu"` // share of one core
}

func (r Role) String() string {
	return fmt.Sprintf("%.1f MB | %.2f %%", float64(r.RSS)/(1<<20), 100*r.CPU)
}

func (i Idle) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| idle for %s | memory | of a core |\n|---|--:|--:|\n", i.Over)
	for _, name := range slices.Sorted(maps.Keys(i.Roles)) {
		fmt.Fprintf(&b, "| %s | %s |\n", name, i.Roles[name])
	}
	fmt.Fprintf(&b, "| agent, etcd and node | %s |\n", i.Node)
	return b.String()
}

func (i Idle) broken() []string {
	var broken []string
	if i.Over == 0 {
		return nil
	}
	if rss := i.Roles["agent"].RSS; rss > 60<<20 {
		broken = append(broken, fmt.Sprintf("an idle agent takes %d MB, more than 60", rss>>20))
	}
	if i.Node.RSS > 130<<20 {
		broken = append(broken, fmt.Sprintf("an idle node takes %d MB, more than 130", i.Node.RSS>>20))
	}
	if i.Node.CPU > 0.02 {
		broken = append(broken, fmt.Sprintf("an idle node takes %.1f %% of a core, more than 2", 100*i.Node.CPU))
	}
	return broken
}

// idle watches every process of ours for a while.
func (c *cluster) idle(ctx context.Context, long time.Duration) (Idle, error) {
	type process struct {
		pid        int
		node, role string
		ticks      int64
	}
	var all []process
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return Idle{}, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		args := strings.Split(string(bytes.TrimRight(line, "\x00")), "\x00")
		for _, n := range c.Nodes {
			if args[0] == n.Paths.Binary && args[len(args)-1] == n.Paths.Dir {
				all = append(all, process{pid: pid, node: n.Member, role: args[1], ticks: ticks(pid)})
			}
		}
	}
	begin := time.Now()
	if err := outside.Pause(ctx, long); err != nil {
		return Idle{}, err
	}
	over := time.Since(begin)
	i := Idle{Over: long, Roles: map[string]Role{}}
	nodes := map[string]Role{}
	for _, p := range all {
		now, memory := ticks(p.pid), rss(p.pid)
		if now == 0 || memory == 0 {
			return Idle{}, errors.New("the " + p.role + " of " + p.node + " ended in an idle cluster")
		}
		r := Role{RSS: memory, CPU: float64(now-p.ticks) / 100 / over.Seconds()} // USER_HZ is 100 on Linux
		i.Roles[p.role] = Role{max(i.Roles[p.role].RSS, r.RSS), max(i.Roles[p.role].CPU, r.CPU)}
		if !bounded[p.role] {
			continue
		}
		nodes[p.node] = Role{nodes[p.node].RSS + r.RSS, nodes[p.node].CPU + r.CPU}
	}
	for _, r := range nodes {
		i.Node = Role{max(i.Node.RSS, r.RSS), max(i.Node.CPU, r.CPU)}
	}
	return i, nil
}

// ticks is the CPU time of a process (proc_pid_stat(5), fields 14 and 15).
func ticks(pid int) int64 {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return user + system
}

// rss is the memory of a process (proc_pid_status(5), VmRSS).
func rss(pid int) int64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(kb), " kB"), 10, 64)
			return n << 10
		}
	}
	return 0
}
