package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"howdah/test/tests3"
)

// An inventory's bucket: WAL and backups of all members go there, encrypted, and
// nowhere else; whoever leads goes on there; moments come back from it, and
// clusters. What opens it is written where only its owner reads.
func TestBucket(t *testing.T) {
	s := tests3.Start(t, "pgsql")
	w := own(t)
	file := w.inventory(fmt.Sprintf(`cluster: one
hosts: [10.10.10.11, 10.10.10.12]
users: [{ name: demo }]
databases: [{ name: demo, owner: demo }]
template: tiny
libs: ''
create_replica_methods: [pgbackrest, basebackup]
backup_method: lab
backup_repositories:
  lab: { type: s3, path: /pgbackrest, s3_bucket: pgsql, s3_endpoint: localhost, s3_region: %s, s3_key: %s, s3_key_secret: %s, s3_uri_style: path,
         storage_port: %d, storage_ca_file: %s, cipher_type: aes-256-cbc, cipher_pass: 'phrase-of.${pg_cluster}', retention_full: 2 }
`, tests3.Region, tests3.Key, tests3.Secret, s.Port, s.CAFile))
	w.check(w.Up(w.ctx, file, "--ground", "loopback"))
	first := w.whole()
	w.in("one", "create table moments (word text); insert into moments values ('here')")
	w.howdah("backup", "--type", "full")
	var b backups
	held := func() string {
		w.t.Helper()
		b = w.backups()
		if len(b.Backups) == 0 {
			return ""
		}
		last := b.Backups[len(b.Backups)-1]
		return last.Type + " in " + strings.Join(last.Members, ",")
	}
	if got := held(); got != "full in bucket pgsql at localhost" {
		t.Errorf("there is a %s", got)
	}
	w.pause(1100 * time.Millisecond)
	was := time.Now().UTC().Format("2006-01-02 15:04:05.000+00")
	w.pause(100 * time.Millisecond)
	w.in("one", "update moments set word = 'gone'")

	// The other member is made anew out of the bucket, and streams on.
	replica := w.replica()
	w.reinit(replica)
	if log := w.agentLog(replica); !strings.Contains(log, "database system restored from a repository") || !strings.Contains(log, "of bucket pgsql at localhost") {
		t.Errorf("%s was not made out of the bucket, or does not say so", replica.Member)
	}
	w.until("the member has what came after the backup", func() bool { return w.asOwner(replica, "demo", "select word from moments") == "gone" })

	second := "one-1"
	if first == second {
		second = "one-2"
	}
	w.howdah("switchover", "--to", second, "--yes")
	w.whole()
	w.until("the new leader speaks of the bucket", func() bool { return w.backups().Leader == second })
	w.howdah("backup", "--type", "incr")
	if got := held(); got != "incr in bucket pgsql at localhost" || b.Backups[0].Type != "full" {
		t.Errorf("there is a %s after %+v", got, b.Backups)
	}
	look := func(to string) string {
		return strings.TrimSpace(w.howdah("restore", "--to", to, "--peek", "--", "psql", "-d", "demo", "-Atc", "select word from moments"))
	}
	if got := look(was); got != "here" {
		t.Errorf("then it was %q, want here", got)
	}
	if got := look("latest"); got != "gone" {
		t.Errorf("at last it is %q, want gone", got)
	}

	// Nothing is on the members' disks, and nobody else reads the keys.
	for _, n := range w.Nodes {
		if _, err := os.Stat(filepath.Join(n.Paths.Dir, "backup")); err == nil {
			t.Errorf("%s keeps a repository on its disk", n.Member)
		}
		if st, err := os.Stat(n.Backup.Config); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", n.Backup.Config, st, err)
		}
	}
	w.silent("what opens the bucket", tests3.Secret, "phrase-of")

	w.howdah("restore", "--to", was, "--yes")
	w.whole()
	if got := w.in("one", "select word from moments"); got != "here" {
		t.Errorf("after the restore it is %q, want here", got)
	}
	w.in("one", "update moments set word = 'anew'")
	if got := look("latest"); got != "anew" {
		t.Errorf("from the bucket after the restore it is %q, want anew", got)
	}

	// A new cluster of it has its own place in the bucket, and what was there of that
	// name is nobody's to write over.
	two := strings.NewReplacer("cluster: one", "cluster: two", "10.10.10.11, 10.10.10.12", "10.10.10.21").Replace(w.text(file))
	w.howdah("restore", "one", "--to", "latest", "--as", "two", "--inventory", w.inventory(two), "--yes")
	if got := w.in("two", "select word from moments"); got != "anew" {
		t.Errorf("the new cluster has %q, want anew", got)
	}
	var other backups
	if out := w.howdah("backups", "two", "--json"); json.Unmarshal([]byte(out), &other) != nil || len(other.Backups) != 1 {
		t.Errorf("the new cluster backs itself up: %s", out)
	}
	for _, dir := range []string{"archive/two", "backup/two", "archive/one", "backup/one"} {
		if _, err := os.Stat(filepath.Join(s.Objects, "pgsql/pgbackrest", dir)); err != nil {
			t.Error(err)
		}
	}
	three := strings.NewReplacer("cluster: one", "cluster: three", "10.10.10.11, 10.10.10.12", "10.10.10.31").Replace(w.text(file))
	w.check(os.MkdirAll(filepath.Join(s.Objects, "pgsql/pgbackrest/archive/three"), 0o755))
	w.check(os.WriteFile(filepath.Join(s.Objects, "pgsql/pgbackrest/archive/three/archive.info"), []byte("whose?"), 0o644))
	w.refused("restore-refused", "already", "restore", "one", "--to", "latest", "--as", "three", "--inventory", w.inventory(three), "--yes")
	w.silent("what opens the bucket", tests3.Secret, "phrase-of")
}

func (w *world) text(file string) string {
	w.t.Helper()
	text, err := os.ReadFile(file)
	w.check(err)
	return string(text)
}

// silent sees to it that no log and no description of a node has the words.
func (w *world) silent(what string, words ...string) {
	w.t.Helper()
	for _, pattern := range []string{"*.log", "*/*/node.json", "*/*/*.log", "*/*/log/*", "playground.json"} {
		files, err := filepath.Glob(filepath.Join(w.Dir, pattern))
		w.check(err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				continue // a directory
			}
			for _, word := range words {
				if strings.Contains(string(text), word) {
					w.t.Errorf("%s has %s", file, what)
				}
			}
		}
	}
}
