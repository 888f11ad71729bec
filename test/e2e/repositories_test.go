package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"howdah/test/tests3"
)

// Two repositories of one cluster, the members' disks and a bucket: both get the log
// and backups. The bucket goes away, and the disks' is as it was; it comes back, and
// has what it missed. Either alone leads back to what was committed last, and the
// real pgBackRest reads both.
func TestTwoRepositories(t *testing.T) {
	s := tests3.Start(t, "pgsql")
	w := own(t)
	file := w.inventory(fmt.Sprintf(`cluster: one
hosts: [10.10.10.11, 10.10.10.12]
users: [{ name: demo }]
databases: [{ name: demo, owner: demo }]
template: tiny
libs: ''
backup_method: [disk, lab]
backup_repositories:
  disk: { retention_full: 3 }
  lab: { type: s3, path: /pgbackrest, s3_bucket: pgsql, s3_endpoint: localhost, s3_region: %s, s3_key: %s, s3_key_secret: %s, s3_uri_style: path,
         storage_port: %d, storage_ca_file: %s, cipher_type: aes-256-cbc, cipher_pass: 'phrase-of.${pg_cluster}', retention_full: 2 }
`, tests3.Region, tests3.Key, tests3.Secret, s.Port, s.CAFile))
	w.check(w.Up(w.ctx, file, "--ground", "loopback"))
	leader := w.Node(w.whole())
	type said struct {
		Member, Repository, Newest string
		Leads                      bool
		Archive                    struct{ Pending int }
	}
	look := func() (all struct {
		Backups []struct {
			Label, Type, Repository string
			Members                 []string
		}
		Members []said
	},
	) {
		a, err := w.Run(w.ctx, "backups", "--json") // 3 while something waits
		w.check(err)
		w.check(json.Unmarshal([]byte(a.Out), &all))
		return all
	}
	held := func(repository string) (all []string) {
		for _, b := range look().Backups {
			if b.Repository == repository {
				all = append(all, b.Type+" "+strings.Join(b.Members, ","))
			}
		}
		return all
	}
	in := func(repository string) said {
		for _, m := range look().Members {
			if m.Repository == repository && m.Leads {
				return m
			}
		}
		return said{}
	}
	w.until("each has a backup, that of the disks two copies", func() bool {
		disk, lab := held("disk"), held("lab")
		return len(disk) == 1 && strings.Contains(disk[0], ",") && len(lab) == 1 && lab[0] == "full bucket pgsql at localhost"
	})
	w.in("one", "create table moments (word text); insert into moments values ('both')")

	// The bucket is away.
	s.Away(true)
	switched := func() string {
		return strings.TrimSpace(w.asOwner(leader, "demo", "select pg_walfile_name(pg_switch_wal()) from txid_current()"))
	}
	var last string
	for range 3 {
		last = switched()
	}
	w.until("the disks have what the bucket does not take", func() bool {
		disk, lab := in("disk"), in("lab")
		return disk.Newest >= last && disk.Archive.Pending == 0 && lab.Archive.Pending >= 3
	})
	w.howdah("backup", "--type", "incr")
	if got := held("disk"); len(got) != 2 || !strings.HasPrefix(got[1], "incr") {
		t.Errorf("without the bucket there are %v", got)
	}
	w.in("one", "update moments set word = 'away'")
	peek := func(note string) string {
		t.Helper()
		a, err := w.Run(w.ctx, "restore", "--to", "latest", "--peek", "--", "psql", "-d", "demo", "-Atc", "select word from moments")
		w.check(err)
		if !strings.Contains(a.Out+a.Err, note) {
			t.Errorf("the restore does not say %q: %s%s", note, a.Out, a.Err)
		}
		return strings.TrimSpace(a.Out)
	}
	if got := peek(leader.Member); !strings.HasSuffix(got, "away") {
		t.Errorf("from the disks: %q", got)
	}

	// It is back.
	s.Away(false)
	w.until("the bucket has what it missed", func() bool {
		lab := in("lab")
		return lab.Newest >= last && lab.Archive.Pending == 0
	})
	w.howdah("backup", "--type", "incr", "--repository", "lab")
	if got := held("lab"); len(got) != 2 || !strings.HasPrefix(got[1], "incr") {
		t.Errorf("in the bucket there are %v", got)
	}
	w.refused("backup-failed", `no repository "tape"`, "backup", "--repository", "tape")

	// The real one's view of both, and of ours.
	for _, key := range []string{"1", "2"} {
		out, err := exec.CommandContext(w.ctx, w.Program, "pgbackrest", "--config="+leader.Backup.Config, "--stanza=one", "--repo="+key, "verify").CombinedOutput()
		if err != nil {
			t.Errorf("verify of repository %s: %v: %s", key, err, out)
		}
	}
	theirs := filepath.Join(os.Getenv("HOWDAH_PEERS"), "pgbackrest/bin/pgbackrest")
	if _, err := os.Stat(theirs); err == nil {
		run := func(args ...string) string {
			t.Helper()
			out, err := exec.CommandContext(w.ctx, "setpriv", append([]string{"--reuid=postgres", "--regid=postgres", "--clear-groups", theirs, "--config=" + leader.Backup.Config, "--stanza=one"}, args...)...).CombinedOutput()
			if err != nil {
				t.Errorf("pgbackrest %v: %v: %s", args, err, out)
			}
			return string(out)
		}
		run("--archive-timeout=60", "check")
		if out := run("--output=json", "info"); strings.Count(out, `"label":`) != 4 {
			t.Errorf("the real one's info: %s", out)
		}
		for _, key := range []string{"1", "2"} {
			if out := run("--repo="+key, "--output=text", "verify"); strings.Contains(out, "error") {
				t.Errorf("the real one's verify of %s: %s", key, out)
			}
		}
	}

	// The disks are lost with all that is on them.
	for _, n := range w.Nodes {
		for _, dir := range []string{"archive", "backup"} {
			w.check(os.Rename(filepath.Join(n.Paths.Dir, "backup", dir), filepath.Join(n.Paths.Dir, "backup", dir+".lost")))
		}
	}
	if got := peek("bucket pgsql"); !strings.HasSuffix(got, "away") {
		t.Errorf("from the bucket: %q", got)
	}
	w.silent("what opens the bucket", tests3.Secret, "phrase-of")
}
