package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"howdah/spec"
	"howdah/test/outside"
	"howdah/test/testpg"
)

// A subscriber of a permanent logical slot misses no row and gets none twice, whoever
// leads: through a planned change under load, a killed server under load, and a lost
// machine. (A row twice would violate the key of its table, and end the subscription.)
func TestASubscriberOfAPermanentSlot(t *testing.T) {
	if os.Getenv("NIGHTLY") == "" {
		t.Skip("takes a minute: NIGHTLY")
	}
	w := own(t)
	w.up()
	w.whole()
	w.howdah("edit-config", "--yes", "--set", "slots.reader.type=logical",
		"--set", "slots.reader.database=demo", "--set", "slots.reader.plugin=pgoutput", "--set", "slots.follower.type=physical")
	w.voters(2)
	entries, err := w.Entries(w.ctx, "default")
	w.check(err)
	slots := func(n spec.Node) int64 {
		for _, e := range entries {
			if e.Host != w.Door(n.Member) {
				continue
			}
			at := e.Copy()
			at.Port = uint16(n.Postgres.Port)
			conn := outside.Connect(w.ctx, at)
			if conn == nil {
				return -1
			}
			defer conn.Close(context.WithoutCancel(w.ctx))
			got := conn.ExecParams(w.ctx, "select count(*) from pg_replication_slots where slot_name in ('reader', 'follower')", nil, nil, nil, nil).Read()
			if len(got.Rows) == 1 {
				n, _ := strconv.ParseInt(string(got.Rows[0][0]), 10, 64)
				return n
			}
		}
		return -1
	}
	// On every standby, and of use there.
	ready := func() {
		t.Helper()
		w.whole()
		w.until("the slots are not ready on every member", func() bool {
			why := w.howdah("why")
			for _, n := range w.Nodes {
				if slots(n) != 2 {
					return false
				}
			}
			return !strings.Contains(why, "slots=")
		})
	}
	w.sql("create table numbered (n bigint primary key, at timestamptz default clock_timestamp())")
	w.sql("create publication rows for table numbered")

	sink := testpg.Start(t, testpg.Primary(), testpg.TCP(), testpg.With(func(n *spec.Node) {
		n.Postgres.Parameters["wal_receiver_timeout"] = "3s"
		n.Postgres.Parameters["wal_retrieve_retry_interval"] = "200ms"
	}))
	var hosts []string
	for _, e := range entries {
		hosts = append(hosts, e.Host)
	}
	var secrets map[string]string
	text, err := os.ReadFile(w.Nodes[0].Paths.Secrets)
	w.check(err)
	w.check(json.Unmarshal(text, &secrets))
	sink.Query("create table numbered (n bigint primary key, at timestamptz)")
	sink.Query(fmt.Sprintf("create subscription rows connection 'host=%s port=%d user=%s password=%s dbname=demo connect_timeout=2 sslmode=prefer' publication rows with (create_slot = false, slot_name = reader, copy_data = false)",
		strings.Join(hosts, ","), entries[0].Port, spec.Replicator, secrets[spec.SecretReplicate]))

	writer := w.write()
	same := func() {
		t.Helper()
		writer.Stop()
		const all = "select count(*) || ' rows, ' || coalesce(sum(n), 0) from numbered"
		var here, there string
		deadline := time.Now().Add(time.Minute)
		w.until("the subscriber has not what the primary has", func() bool {
			here, there = w.sql(all), sink.Query(all)
			if here != there && time.Now().After(deadline) {
				t.Fatalf("the primary has %s, the subscriber %s\n%s", here, there, sink.Log())
			}
			return here == there
		})
		t.Logf("both have %s", here)
		w.kept(writer)
	}
	again := func() {
		t.Helper()
		writer = w.write()
		w.pause(time.Second)
	}
	ready()
	w.pause(time.Second)
	w.howdah("switchover", "--yes")
	w.flowing(writer)
	same()

	again()
	ready()
	w.howdah("fault", "kill-postgres")
	w.flowing(writer)
	same()

	// A subscriber may be ahead of every standby by what no client has an acknowledgement
	// of (docs/guarantees.md): with the machine that would be lost.
	ready()
	leader := w.whole()
	w.howdah("fault", "kill-node", leader)
	again()
	same()
	w.howdah("fault", "start-node", leader)
	ready()
}
