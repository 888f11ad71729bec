package embed_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"howdah/dcs/embed"
	"howdah/dcs/embed/embedtest"
	"howdah/pki"
	"howdah/problem"
)

func TestMain(m *testing.M) { embedtest.Main(m) }

func TestAMemberKeepsItsDataOverARestart(t *testing.T) {
	t.Parallel()
	c := embedtest.Start(t, embedtest.Nodes(t, 1, false))
	client := c.Client()
	if _, err := client.Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	c.Stop(0)
	c.Launch(0)
	c.Wait()
	c.Kill(0)
	c.Launch(0)
	c.Wait()
	got, err := c.Client().Get(t.Context(), "k")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "v" {
		t.Errorf("Get(k) = %v, %v; want v", got, err)
	}
}

// Patroni and patronictl speak to etcd through this gateway.
func TestTheClientPortSpeaksHTTP(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		c := embedtest.Start(t, embedtest.Nodes(t, 1, secure))
		tls, err := pki.ClientConfig(c.Nodes[0].TLS)
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: tls}, Timeout: 10 * time.Second}
		defer client.CloseIdleConnections()
		at := c.Endpoints()[0]
		if got := body(t, client, "GET", at+"/version", ""); !strings.Contains(got, `"etcdserver":"3.`) {
			t.Errorf("GET /version = %s; want etcd's version", got)
		}
		body(t, client, "POST", at+"/v3/kv/put", `{"key":"Zm9v","value":"YmFy"}`)
		if got := body(t, client, "POST", at+"/v3/kv/range", `{"key":"Zm9v"}`); !strings.Contains(got, `"YmFy"`) {
			t.Errorf("POST /v3/kv/range = %s; want the value", got)
		}
	}
}

func body(t *testing.T, c *http.Client, method, at, send string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, at, strings.NewReader(send))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s = %s, %s, %v", method, at, resp.Status, text, err)
	}
	return string(text)
}

func TestWithTLSAStrangerIsRefused(t *testing.T) {
	t.Parallel()
	c := embedtest.Start(t, embedtest.Nodes(t, 1, true))
	u, err := url.Parse(c.Endpoints()[0])
	if err != nil {
		t.Fatal(err)
	}
	tls, err := pki.ClientConfig(c.Nodes[0].TLS)
	if err != nil {
		t.Fatal(err)
	}
	tls.Certificates = nil // trusts the cluster, but is nobody
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: tls}, Timeout: 10 * time.Second}
	if resp, err := client.Get(u.JoinPath("version").String()); err == nil {
		resp.Body.Close()
		t.Errorf("GET /version without a certificate = %s; want a refusal", resp.Status)
	}
}

func TestThreeMembersStartQuicklyAndStopQuickly(t *testing.T) {
	t.Parallel()
	began := time.Now()
	c := embedtest.Start(t, embedtest.Nodes(t, 3, true))
	t.Logf("three members ready after %s", time.Since(began).Round(time.Millisecond))
	for i := range c.Nodes {
		t.Logf("member %d: %d kB resident", i, resident(t, c.PID(i)))
	}
	// A client with an open watch must not hold a member.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watch := c.Client().Watch(ctx, "k")
	leader := c.Leader()
	if took := c.Stop(leader); took > 2500*time.Millisecond {
		t.Errorf("the leader took %s to stop", took)
	} else {
		t.Logf("the leader took %s to stop", took.Round(time.Millisecond))
	}
	// The second one goes while it leads or follows; the last has no quorum.
	for i := range c.Nodes {
		if i == leader {
			continue
		}
		took := c.Stop(i)
		t.Logf("member %d took %s to stop", i, took.Round(time.Millisecond))
		if took > 2500*time.Millisecond {
			t.Errorf("member %d took %s to stop; want at most 2.5 s", i, took)
		}
	}
	cancel()
	for range watch { //nolint:revive // drained until it closes
	}
}

func TestAMemberWithoutPeersStops(t *testing.T) {
	t.Parallel()
	nodes := embedtest.Nodes(t, 3, false)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- embed.Run(ctx, nodes[0], slog.New(slog.DiscardHandler)) }()
	until(t, "it listens", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(nodes[0].Etcd.Members[0].Peer, "http://"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	asked := time.Now()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v; want nil", err)
	}
	if took := time.Since(asked); took > 2500*time.Millisecond {
		t.Errorf("it took %s to stop; want at most 2.5 s", took)
	}
}

func TestATakenPortIsNamed(t *testing.T) {
	t.Parallel()
	for _, which := range []string{"client", "peer"} {
		nodes := embedtest.Nodes(t, 1, false)
		at := nodes[0].Etcd.Members[0].Client
		if which == "peer" {
			at = nodes[0].Etcd.Members[0].Peer
		}
		_, port, _ := net.SplitHostPort(strings.TrimPrefix(at, "http://"))
		l, err := net.Listen("tcp", ":"+port) // a wildcard listener
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		err = embed.Run(t.Context(), nodes[0], slog.New(slog.DiscardHandler))
		p, ok := errors.AsType[*problem.Error](err)
		if !ok || p.Code != "port-taken" || !strings.Contains(p.Why, port) || !strings.Contains(p.Why, fmt.Sprintf("pid %d", os.Getpid())) {
			t.Errorf("%s port: Run = %v; want port-taken, the port and our pid", which, err)
		}
	}
}

// The node of the primary is where etcd's leader should not be.
func TestLeadershipLeavesThePrimarysNode(t *testing.T) {
	t.Parallel()
	c := embedtest.Start(t, embedtest.Nodes(t, 3, false))
	leader := c.Leader()
	node := c.Nodes[leader]
	client := c.Client()
	lease, err := client.Grant(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(t.Context(), node.Base()+"leader", node.Member, clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	alive, err := client.KeepAlive(t.Context(), lease.ID)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	until(t, "another member leads", func() bool {
		if _, ok := <-alive; !ok {
			t.Fatal("the primary lost its lease")
		}
		return c.Leader() != leader
	})
	t.Logf("another member led after %s", time.Since(began).Round(time.Millisecond))
}

func TestLeadershipStaysWhileAMemberIsUnwell(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := embedtest.Start(t, embedtest.Nodes(t, 3, false))
	leader := c.Leader()
	node := c.Nodes[leader]
	client := c.Client()
	client.SetEndpoints(c.Endpoints()[leader]) // the only one this test talks to
	c.Signal((leader+1)%3, syscall.SIGSTOP)
	lease, err := client.Grant(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(ctx, node.Base()+"leader", node.Member, clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	pace := time.NewTicker(200 * time.Millisecond) // of a primary
	defer pace.Stop()
	for began := time.Now(); time.Since(began) < 3*time.Second; <-pace.C { // it may move after 1.5 s
		if _, err := client.KeepAliveOnce(ctx, lease.ID); err != nil {
			t.Fatal(err)
		}
		s, err := client.Status(ctx, c.Endpoints()[leader])
		if err != nil || s.Leader != s.Header.MemberId {
			t.Fatalf("status = %+v, %v; want it to lead, since another member was frozen", s, err)
		}
	}
}

func resident(t *testing.T, pid int) (kB int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	if _, err := fmt.Sscan(rest, &kB); err != nil {
		t.Fatal(err)
	}
	return kB
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("20 s passed, and not yet: %s", what)
		}
	}
}
