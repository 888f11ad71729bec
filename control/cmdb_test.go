package control

import (
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"howdah/problem"
	"howdah/test/testpg"
)

// An inventory that is written into a CMDB is read from there as it was, twice changes
// nothing, and what it has no more goes. It runs no command there, and no error tells
// the password of the database.
func TestCMDB(t *testing.T) {
	s := testpg.Start(t, testpg.Primary())
	at := func(port int, database string) string {
		return "postgresql://postgres:TOPSECRET@/" + database + "?" + url.Values{"host": {s.Node.Paths.Sockets}, "port": {strconv.Itoa(port)}}.Encode()
	}
	uri := at(s.Node.Postgres.Port, "postgres")
	file := filepath.Join(t.TempDir(), "pigsty.yml")
	read := func(text string) Inventory {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		inv, err := ReadInventory(file)
		if err != nil {
			t.Fatal(err)
		}
		return inv
	}
	const text = `all:
  vars: { pg_version: 17, pg_conf: tiny.yml, pg_libs: '' }
  children:
    etcd: { hosts: { 10.0.0.1: { etcd_seq: 1 } } }
    pg-one:
      hosts: { 10.0.0.1: { pg_seq: 1, pg_role: primary }, 10.0.0.2: { pg_seq: 2, pg_role: replica, pg_offline_query: yes } }
      vars:
        pg_cluster: pg-one
        pg_users: [ { name: app, password: "it's ? $1 \\ \"p\" ü", connlimit: 10 }, { name: ro, password: 'off' } ]
        pg_databases: [ { name: app, owner: app, comment: "a: b # c" } ]
`
	inv := read(text)
	preview, err := inv.Record(t.Context(), uri, true)
	if err != nil || preview.Groups != 2 || preview.Hosts != 3 || preview.Written == 0 {
		t.Fatalf("%+v, %v", preview, err)
	}
	if there := s.Query("SELECT count(*) FROM pg_namespace WHERE nspname = 'pigsty'"); there != "0" {
		t.Error("a preview left its tables")
	}
	r, err := inv.Record(t.Context(), uri, false)
	if err != nil || r != preview {
		t.Fatalf("%+v, %v, want %+v", r, err, preview)
	}
	r, err = inv.Record(t.Context(), uri, false)
	if err != nil || r.Written+r.Removed != 0 {
		t.Errorf("written again: %+v, %v", r, err)
	}
	same := func(want Inventory) {
		t.Helper()
		got, err := ReadInventory(uri)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(got.World.File, "TOPSECRET") || !reflect.DeepEqual(got.World.Clusters[0].Objects, want.World.Clusters[0].Objects) || !reflect.DeepEqual(got.World.Clusters[0].Secrets, want.World.Clusters[0].Secrets) {
			t.Errorf("of %s\ngot  %+v %v\nwant %+v", got.World.File, got.World.Clusters[0].Objects, got.World.Clusters[0].Secrets["user:app"].Reveal(), want.World.Clusters[0].Objects)
		}
		for i, m := range want.World.Clusters[0].Members {
			if g := got.World.Clusters[0].Members[i]; g.Name != m.Name || g.Host != m.Host {
				t.Errorf("member %d is %s on %s, want %s on %s", i, g.Name, g.Host, m.Name, m.Host)
			}
		}
	}
	same(inv)
	inv = read(strings.NewReplacer(", 10.0.0.2: { pg_seq: 2, pg_role: replica, pg_offline_query: yes }", "", "connlimit: 10", "connlimit: 11", "pg_conf: tiny.yml, ", "").Replace(text))
	if r, err = inv.Record(t.Context(), uri, false); err != nil || r.Removed != 5 || r.Written != 1 {
		t.Errorf("changed: %+v, %v", r, err)
	}
	same(inv)

	s.Query(`UPDATE pigsty.group_var SET value = jsonb_set(value, '{0,password}', '"command:true"') WHERE key = 'pg_users'`)
	if _, err := ReadInventory(uri); problem.Code(err) != "inventory-files" || !strings.Contains(problem.Text(err), "names no command") {
		t.Errorf("a command in a table: %v", err)
	}
	for _, bad := range []string{at(1, "postgres"), at(s.Node.Postgres.Port, "template1")} {
		if _, err := ReadInventory(bad); problem.Code(err) != "inventory-unreadable" || strings.Contains(problem.Text(err), "TOPSECRET") {
			t.Errorf("nothing there: %v", err)
		}
	}
	for why, text := range map[string]string{
		"none below another": "all: { children: { a: { children: { pg-one: { vars: { pg_cluster: pg-one }, hosts: { 10.0.0.1: { pg_seq: 1, pg_role: primary } } } } } } }\n",
		"no IPv4 address":    "all: { children: { pg-one: { vars: { pg_cluster: pg-one }, hosts: { db1.example: { pg_seq: 1, pg_role: primary } } } } }\n",
		"the short form":     "cluster: one\nmembers: [ 10.0.0.1 ]\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		inv := Inventory{Text: []byte(text)}
		inv.World.File = file
		if _, err := inv.Record(t.Context(), uri, false); problem.Code(err) != "cmdb-not-written" || !strings.Contains(problem.Text(err), why) {
			t.Errorf("%s: %v", why, err)
		}
	}
}
