package compat

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"howdah/spec"
)

// The real Patroni takes a cluster over as it lies there, over the same store, and
// gives it back (docs/moving.md).
func TestPatroniTakesOverAndBack(t *testing.T) {
	if os.Getenv("NIGHTLY") == "" {
		t.Skip("takes longer than there is time by day: NIGHTLY=1")
	}
	ctl := peer(t, "bookworm", "patronictl")
	patroni := filepath.Join(filepath.Dir(ctl), "..", "usr", "bin", "patroni")
	if os.Geteuid() != 0 {
		t.Skip("becomes PostgreSQL's user: needs root")
	}
	w := demo(t, 5*time.Minute)
	sql := func(statement string) string {
		t.Helper()
		a, err := w.Run(w.ctx, "psql", "--", "-AtXqc", statement)
		w.check(err)
		return strings.TrimSpace(a.Out + a.Err)
	}
	sql("CREATE TABLE words AS SELECT 'ours' AS word")
	last := w.whole()
	nodes := slices.Clone(w.Nodes)
	slices.SortStableFunc(nodes, func(a, b spec.Node) int { // who led last comes first
		switch last {
		case a.Member:
			return -1
		case b.Member:
			return 1
		}
		return 0
	})
	_, err := w.Howdah(w.ctx, "down", "--yes")
	w.check(err)

	var secrets map[string]string
	text, err := os.ReadFile(filepath.Join(w.Dir, "demo", "secrets.json"))
	w.check(err)
	w.check(json.Unmarshal(text, &secrets))
	var running []*exec.Cmd
	start := func(log string, args ...string) *exec.Cmd {
		t.Helper()
		cmd := exec.Command("setpriv", append([]string{"--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=TERM"}, args...)...)
		cmd.Dir = "/"
		file, err := os.Create(filepath.Join(w.Dir, log))
		w.check(err)
		defer file.Close()
		cmd.Stdout, cmd.Stderr = file, file
		w.check(cmd.Start())
		running = append(running, cmd)
		return cmd
	}
	end := func() { // the stores last: Patroni gives its key up there
		for _, cmd := range slices.Backward(running) {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
		}
		running = nil
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range nodes {
				text, _ := os.ReadFile(filepath.Join(w.Dir, n.Member+".patroni.log"))
				t.Logf("%s:\n%s", n.Member, text[max(0, len(text)-2000):])
			}
		}
		end()
	})
	for _, n := range nodes {
		start(n.Member+".etcd.log", n.Paths.Binary, "etcd", "serve", "--node", n.Paths.Dir)
	}
	config := func(n spec.Node) string { return filepath.Join(n.Paths.Dir, "patroni.yml") }
	shows := func(what string) {
		t.Helper()
		w.until("Patroni does not come to "+what, func() bool {
			out, _ := exec.Command(ctl, "-c", config(nodes[0]), "list").CombinedOutput() // its store may not be up yet
			return strings.Contains(strings.Join(strings.Fields(string(out)), " "), what)
		})
	}
	for _, n := range nodes {
		w.check(os.WriteFile(config(n), fmt.Appendf(nil, `scope: demo
namespace: /service/
name: %[1]s
restapi: { listen: "%[2]s:8008", connect_address: "%[2]s:8008" }
etcd3: { hosts: "%[3]s", protocol: https, cacert: %[4]s, cert: %[5]s, key: %[6]s }
postgresql:
  listen: "%[2]s:5432"
  connect_address: "%[2]s:5432"
  data_dir: %[7]s
  bin_dir: %[8]s
  pgpass: %[9]s/patroni.pgpass
  authentication:
    superuser: { username: postgres, password: %[10]s }
    replication: { username: replicator, password: %[11]s }
  parameters: { unix_socket_directories: %[9]s }
  pg_hba: [ "local all all trust", "host all all 127.0.0.0/8 scram-sha-256", "host replication replicator 127.0.0.0/8 scram-sha-256" ]
`, n.Member, n.Address, w.etcd(), n.TLS.CA, n.TLS.Cert, n.TLS.Key, n.Postgres.Data, n.Postgres.Bin, n.Paths.Dir, secrets[spec.SecretSuper], secrets[spec.SecretReplicate]), 0o644))
		start(n.Member+".patroni.log", filepath.Join(filepath.Dir(ctl), "python3"), patroni, config(n))
		if n.Member == last {
			shows(last + " | " + n.Address + " | Leader | running |")
		} else {
			shows(n.Member + " | " + n.Address + " | Replica | running |")
		}
	}
	lead := nodes[0]
	if out, err := exec.Command(filepath.Join(lead.Postgres.Bin, "psql"), "-h", lead.Paths.Dir, "-U", spec.Superuser, "-d", "demo", "-AtXqc", "INSERT INTO words VALUES ('Patroni''s')").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	end()

	w.check(w.Up(w.ctx))
	w.whole()
	if got := sql("SELECT string_agg(word, ', ' ORDER BY word COLLATE \"C\") FROM words"); got != "Patroni's, ours" {
		t.Errorf("back again, there is %q", got)
	}
}
