package embed_test

import (
	"context"
	"crypto/tls"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"howdah/cluster"
	"howdah/dcs/embed"
	"howdah/dcs/embed/embedtest"
	"howdah/pki"
)

// A majority is lost: the one that is left begins a store of its own with what it
// has, but for what says who leads, and the others join it.
func TestAMajorityIsLostForEver(t *testing.T) {
	t.Parallel()
	c := embedtest.Start(t, embedtest.Nodes(t, 3, true))
	base := c.Nodes[0].Base()
	for key, value := range map[string]string{cluster.KeyConfig: "{}", cluster.KeyLeader: "demo-2", cluster.KeyInitialize: "74", "howdah/members/demo-2": "{}"} {
		if _, err := c.Client().Put(t.Context(), base+key, value); err != nil {
			t.Fatal(err)
		}
	}
	last, err := c.Client().Put(t.Context(), "/foreign/leader", "stays") // no cluster of ours
	if err != nil {
		t.Fatal(err)
	}
	survivor, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints()[1:2], TLS: tlsOf(t, c), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer survivor.Close()
	until(t, "the one that is left has what a majority has", func() bool {
		got, err := survivor.Get(t.Context(), "/foreign/leader", clientv3.WithSerializable())
		return err == nil && len(got.Kvs) == 1
	})
	c.Kill(0)
	c.Kill(2)
	c.Stop(1)
	for i, n := range c.Nodes {
		var err error
		switch i {
		case 0:
			err = os.RemoveAll(n.Etcd.Data) // joins anew by itself
		case 1:
			err = embed.Founding{}.Ask(n.Etcd.Data, -1, -1)
		case 2:
			err = embed.Rejoin(n.Etcd.Data, -1, -1)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.Launch(1)
	c.Wait()
	c.Launch(2)
	c.Wait()
	until(t, "two vote", func() bool { return voters(t, c) == 2 })
	if err := embed.Rejoin(c.Nodes[0].Etcd.Data, -1, -1); err != nil {
		t.Fatal(err)
	}
	c.Launch(0)
	c.Wait()
	until(t, "three vote", func() bool { return voters(t, c) == 3 })
	want := map[string]string{base + cluster.KeyConfig: "{}", base + "howdah/members/demo-2": "{}", "/foreign/leader": "stays"}
	for _, url := range c.Endpoints() { // each has it all, and not only those that were asked
		one, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, TLS: tlsOf(t, c), Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		got, err := one.Get(t.Context(), "/", clientv3.WithPrefix())
		one.Close()
		if err != nil {
			t.Fatal(err)
		}
		keys := map[string]string{}
		for _, kv := range got.Kvs {
			keys[string(kv.Key)] = string(kv.Value)
		}
		if !maps.Equal(keys, want) {
			t.Errorf("%s has %v, want %v", url, keys, want)
		}
		if got.Header.Revision <= last.Header.Revision {
			t.Errorf("%s is at revision %d, the lost store was at %d", url, got.Header.Revision, last.Header.Revision)
		}
	}
	for _, i := range []int{1, 2} {
		kept, err := filepath.Glob(c.Nodes[i].Etcd.Data + ".kept-*/member/wal/*.wal")
		if err != nil || len(kept) == 0 {
			t.Errorf("the data of before of %s are not kept (%v)", c.Nodes[i].Member, err)
		}
	}
	// It is one like any other: also after a restart.
	for i := range c.Nodes {
		c.Kill(i)
	}
	for i := range c.Nodes {
		c.Launch(i)
	}
	c.Wait()
	if n := voters(t, c); n != 3 {
		t.Errorf("%d vote, want 3", n)
	}
}

// A snapshot is put back.
func TestASnapshotIsPutBack(t *testing.T) {
	t.Parallel()
	c := embedtest.Start(t, embedtest.Nodes(t, 1, false))
	n := c.Nodes[0]
	put := func(value string) {
		t.Helper()
		if _, err := c.Client().Put(t.Context(), n.Base()+cluster.KeyConfig, value); err != nil {
			t.Fatal(err)
		}
	}
	put("then")
	file := filepath.Join(t.TempDir(), "snapshot")
	from, err := c.Client().Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	to, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	to.Close()
	put("later")
	c.Kill(0)
	if err := (embed.Founding{From: file}).Ask(n.Etcd.Data, -1, -1); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c.Launch(0)
		c.Wait()
		got, err := c.Client().Get(t.Context(), n.Base()+cluster.KeyConfig)
		if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "then" {
			t.Fatalf("config is %v, %v; want then", got, err)
		}
		put("then") // it can be written to
		until(t, "the notes are gone", func() bool {
			_, a := os.Stat(n.Etcd.Data + ".founding")
			_, b := os.Stat(filepath.Join(n.Etcd.Data, "founded"))
			return os.IsNotExist(a) && os.IsNotExist(b)
		})
		c.Kill(0)
	}
}

func tlsOf(t *testing.T, c *embedtest.Cluster) *tls.Config {
	config, err := pki.ClientConfig(c.Nodes[0].TLS)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// voters counts the members that run and vote; -1 if that can not be known now.
func voters(t *testing.T, c *embedtest.Cluster) (n int) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	client := c.Client()
	defer client.Close()
	list, err := client.MemberList(ctx)
	if err != nil {
		return -1
	}
	for _, m := range list.Members {
		if m.Name != "" && !m.IsLearner {
			n++
		}
	}
	return n
}
