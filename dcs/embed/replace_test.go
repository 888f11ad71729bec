package embed_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"howdah/dcs/embed/embedtest"
)

// The data directory of a member is lost: it joins the others as a new member
// and has their data.
func TestAMemberThatLostItsDataJoinsAnew(t *testing.T) {
	t.Parallel()
	c := embedtest.Start(t, embedtest.Nodes(t, 3, true))
	if _, err := c.Client().Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	members := func() map[string]uint64 {
		t.Helper()
		list, err := c.Client().MemberList(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ids := map[string]uint64{}
		for _, m := range list.Members {
			ids[m.Name] = m.ID
		}
		return ids
	}
	before := members()
	e := c.Nodes[1].Etcd
	c.Kill(1)
	if err := os.RemoveAll(e.Data); err != nil {
		t.Fatal(err)
	}
	c.Launch(1)
	c.Wait()
	after := members()
	if len(after) != 3 || after[e.Member] == 0 || after[e.Member] == before[e.Member] {
		t.Errorf("members were %v, are %v; want another %s", before, after, e.Member)
	}
	until(t, "the note is gone", func() bool { _, err := os.Stat(e.Data + ".replacing"); return os.IsNotExist(err) })
	until(t, "it votes", func() bool {
		list, err := c.Client().MemberList(t.Context())
		if err != nil {
			return false
		}
		for _, m := range list.Members {
			if m.IsLearner || m.Name == "" {
				return false
			}
		}
		return true
	})
	// With one of the others down there is a majority.
	c.Kill(0)
	until(t, "two of three go on", func() bool {
		got, err := c.Client().Get(t.Context(), "k")
		return err == nil && len(got.Kvs) == 1 && string(got.Kvs[0].Value) == "v"
	})
	c.Launch(0)
	c.Wait()

	// And once more, killed after it had left and before it came back.
	c.Kill(1)
	if err := os.RemoveAll(e.Data); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(e.Data+".replacing", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "it has left", func() bool { // an election drops what is proposed meanwhile, and says nothing
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := c.Client().MemberRemove(ctx, after[e.Member])
		return err == nil || errors.Is(err, rpctypes.ErrMemberNotFound)
	})
	c.Launch(1)
	c.Wait()
	if now := members(); len(now) != 3 || now[e.Member] == 0 {
		t.Errorf("members are %v", now)
	}
}
