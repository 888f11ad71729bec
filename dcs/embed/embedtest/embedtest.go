// Package embedtest starts members of etcd for tests: each a process of its
// own (the test binary again), so that it can be killed, frozen and measured.
//
// A test binary that uses it gives its main to Main.
package embedtest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"howdah/dcs/embed"
	"howdah/pki"
	"howdah/spec"
)

const nodeFile = "HOWDAH_TEST_ETCD_NODE"

var loopback = netip.MustParseAddr("127.0.0.1")

// Main runs the tests, or one member if this process was started as one.
func Main(m *testing.M) {
	path := os.Getenv(nodeFile)
	if path == "" {
		m.Run()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := member(ctx, path); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func member(ctx context.Context, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var node spec.Node
	if err := json.Unmarshal(text, &node); err != nil {
		return err
	}
	return embed.Run(ctx, node, slog.New(slog.NewJSONHandler(os.Stderr, nil)))
}

// A Cluster is some members on this machine.
type Cluster struct {
	Nodes []spec.Node

	t     testing.TB
	procs []*exec.Cmd
}

// Nodes lays out n members on free ports; secure ones speak TLS.
func Nodes(t testing.TB, n int, secure bool) []spec.Node {
	t.Helper()
	dir, scheme := t.TempDir(), "http"
	if secure {
		scheme = "https"
	}
	var members []spec.EtcdMember
	for i := range n {
		members = append(members, spec.EtcdMember{
			Name:   fmt.Sprintf("demo-%d", i+1),
			Client: scheme + "://" + freePort(t),
			Peer:   scheme + "://" + freePort(t),
		})
	}
	var nodes []spec.Node
	for _, m := range members {
		node := spec.Node{
			Cluster: "demo", Namespace: "/service", Member: m.Name, Address: "127.0.0.1",
			Etcd: spec.Etcd{Member: m.Name, Data: filepath.Join(dir, m.Name), Members: members},
		}
		if secure {
			ca, err := pki.OpenAuthority(filepath.Join(dir, "ca"), "demo")
			if err != nil {
				t.Fatal(err)
			}
			if node.TLS, err = ca.Issue(filepath.Join(dir, "tls-"+m.Name), m.Name, loopback); err != nil {
				t.Fatal(err)
			}
		}
		nodes = append(nodes, node)
	}
	return nodes
}

// Start runs members, one process each, and waits until they answer.
func Start(t testing.TB, nodes []spec.Node) *Cluster {
	t.Helper()
	c := &Cluster{Nodes: nodes, t: t, procs: make([]*exec.Cmd, len(nodes))}
	t.Cleanup(func() {
		for i := range c.procs {
			c.Signal(i, syscall.SIGKILL)
			c.wait(i)
		}
	})
	for i := range nodes {
		c.Launch(i)
	}
	c.Wait()
	return c
}

// Launch starts member i and does not wait for it.
func (c *Cluster) Launch(i int) {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	text, err := json.Marshal(c.Nodes[i])
	if err != nil {
		c.t.Fatal(err)
	}
	path := c.Nodes[i].Etcd.Data + ".json"
	if err := os.WriteFile(path, text, 0o600); err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), nodeFile+"="+path)
	cmd.Stderr = output{c.t, c.Nodes[i].Member}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.procs[i] = cmd
}

// Signal sends sig to member i, if it runs. After SIGSTOP it returns once every
// thread stands: the one that takes the signal may be waiting for the disk, and
// until then the others go on, and vote.
func (c *Cluster) Signal(i int, sig syscall.Signal) {
	cmd := c.procs[i]
	if cmd == nil || cmd.Process.Signal(sig) != nil || sig != syscall.SIGSTOP {
		return
	}
	for deadline := time.Now().Add(10 * time.Second); !stands(cmd.Process.Pid); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("member %s did not stop within 10 s", c.Nodes[i].Member)
		}
	}
}

// stands reports whether every thread of pid is stopped (proc(5), stat).
func stands(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, path := range threads {
		text, err := os.ReadFile(path)
		_, after, _ := strings.Cut(string(text), ") ")
		if err != nil || !strings.HasPrefix(after, "T") {
			return false
		}
	}
	return err == nil && len(threads) > 0
}

// Kill ends member i as a crash would.
func (c *Cluster) Kill(i int) {
	c.Signal(i, syscall.SIGKILL)
	c.wait(i)
}

// Stop asks member i to end, waits until it has, and says how long that took.
func (c *Cluster) Stop(i int) time.Duration {
	asked := time.Now()
	c.Signal(i, syscall.SIGTERM)
	c.wait(i)
	return time.Since(asked)
}

func (c *Cluster) wait(i int) {
	if cmd := c.procs[i]; cmd != nil {
		_ = cmd.Wait()
		c.procs[i] = nil
	}
}

// PID is the process of member i.
func (c *Cluster) PID(i int) int { return c.procs[i].Process.Pid }

// Endpoints are the client URLs of every member.
func (c *Cluster) Endpoints() []string { return c.Nodes[0].Etcd.Endpoints() }

// Client is etcd's own client to every member.
func (c *Cluster) Client() *clientv3.Client {
	c.t.Helper()
	tls, err := pki.ClientConfig(c.Nodes[0].TLS)
	if err != nil {
		c.t.Fatal(err)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints(), TLS: tls, Logger: zap.NewNop(), DialOptions: []grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, MaxDelay: 100 * time.Millisecond, Multiplier: 1.5}}),
	}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { client.Close() })
	return client
}

// Wait returns once every running member knows a leader, votes and takes requests.
func (c *Cluster) Wait() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client := c.Client()
	defer client.Close()
	for i, node := range c.Nodes {
		if c.procs[i] == nil {
			continue
		}
		for {
			try, done := context.WithTimeout(ctx, 100*time.Millisecond)
			s, err := client.Status(try, node.Etcd.Members[i].Client)
			done()
			if err == nil && s.Leader != 0 && !s.IsLearner {
				break
			}
			if ctx.Err() != nil {
				c.t.Fatalf("member %s: no leader, or no vote, after 20 s: %v", node.Member, err)
			}
		}
	}
	if _, err := client.Get(ctx, "ready"); err != nil {
		c.t.Fatal(err)
	}
}

// Leader is the index of etcd's leader.
func (c *Cluster) Leader() int {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client := c.Client()
	defer client.Close()
	for ctx.Err() == nil {
		for i, node := range c.Nodes {
			if c.procs[i] == nil {
				continue
			}
			try, done := context.WithTimeout(ctx, time.Second)
			s, err := client.Status(try, node.Etcd.Members[i].Client)
			done()
			if err == nil && s.Leader == s.Header.MemberId {
				return i
			}
		}
	}
	c.t.Fatal("etcd has no leader")
	return -1
}

var given sync.Map // ports handed out; tests of one binary share it, some of them at once

func freePort(t testing.TB) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		l.Close()
		if _, taken := given.LoadOrStore(addr, true); !taken {
			return addr
		}
	}
}

// output is a member's log, line by line in the test's.
type output struct {
	t    testing.TB
	name string
}

func (o output) Write(p []byte) (int, error) {
	o.t.Logf("%s: %s", o.name, strings.TrimSpace(string(p)))
	return len(p), nil
}
