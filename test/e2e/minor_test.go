package e2e

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"howdah/pg"
	"howdah/postgres"
)

const minorCluster = `---
all:
  vars: { node_tune: tiny, pg_conf: tiny.yml, pg_libs: '' }
  children:
    pg-minor:
      hosts:
        10.10.10.11: { pg_seq: 1, pg_role: primary }
        10.10.10.12: { pg_seq: 2, pg_role: replica }
        10.10.10.13: { pg_seq: 3, pg_role: replica }
      vars: { pg_cluster: pg-minor, pg_version: `

// another makes of a postgres one that says of itself, everywhere, that it is another
// minor version: real ones of one major are rarely at hand.
func (w *world) another(program string, was postgres.Programs) (version string) {
	w.t.Helper()
	b, err := os.ReadFile(program)
	w.check(err)
	digit := was.Version[len(was.Version)-1]
	version = was.Version[:len(was.Version)-1] + string(rune('0'+(digit-'0'+1)%10))
	num := func(text string) []byte { // server_version_num: its default, minimum and maximum are neighbours
		n, err := pg.VersionNum(text)
		w.check(err)
		return bytes.Repeat(binary.LittleEndian.AppendUint32(nil, uint32(n)), 3)
	}
	old := num(was.Version)
	if bytes.Count(b, old) != 1 {
		w.t.Skipf("%s has its version in %d places, not in one", program, bytes.Count(b, old))
	}
	b = bytes.Replace(b, old, num(version), 1)
	b = bytes.ReplaceAll(b, []byte("PostgreSQL) "+was.Version), []byte("PostgreSQL) "+version))
	w.check(os.WriteFile(program+".new", b, 0o755))
	w.check(os.Chmod(program+".new", 0o755))
	w.check(os.Rename(program+".new", program))
	return version
}

// A package of PostgreSQL is replaced by the next minor version while the servers run:
// plan says who waits for a restart, and apply restarts the replicas first and the
// leader after another one leads.
func TestMinorUpgrade(t *testing.T) {
	byNight(t)
	var tree string
	var was postgres.Programs
	for _, p := range postgres.FindAll() { // the newest that does not belong to the machine
		bin, err := filepath.EvalSymlinks(p.Bin)
		if err != nil || strings.HasPrefix(bin, "/usr/") {
			continue
		}
		if root, ok := strings.CutSuffix(bin, "/usr/lib/postgresql/"+strconv.Itoa(p.Major)+"/bin"); ok {
			tree, was = root, p
		}
	}
	if tree == "" {
		t.Skip("no PostgreSQL of which a copy could be changed: scripts/getpg 18 fetches one, and HOWDAH_PG says where to")
	}
	w := own(t)
	top, err := os.MkdirTemp("", "howdah-minor-")
	w.check(err)
	t.Cleanup(func() { os.RemoveAll(top) })
	w.check(os.Chmod(top, 0o755))
	w.run("cp", "-a", tree, filepath.Join(top, "tree"))
	major := strconv.Itoa(was.Major)
	w.check(os.Symlink("tree/usr/lib/postgresql/"+major, filepath.Join(top, major)))
	w.Env = append(os.Environ(), "HOWDAH_PG="+top)
	file := filepath.Join(top, "pigsty.yml")
	w.check(os.WriteFile(file, []byte(minorCluster+major+" }\n"), 0o644))
	w.check(w.Up(w.ctx, file))
	first := w.whole()
	w.planned(0, "nothing to change", file)

	next := w.another(filepath.Join(top, major, "bin", "postgres"), was)
	w.until("list does not say that they wait", func() bool {
		return strings.Count(w.howdah("list"), "server_version: "+was.Version+"->"+next) == len(w.Nodes)
	})
	w.planned(2, "restart member "+first, file)
	out := w.howdah("apply", file, "--yes")
	for _, n := range w.Nodes {
		if strings.Count(out, "restarted member "+n.Member) != 1 {
			t.Errorf("apply does not restart %s once:\n%s", n.Member, out)
		}
	}
	if leader := w.whole(); leader == first {
		t.Errorf("%s leads still", leader)
	}
	if i := strings.Index(out, "restarted member "+first); strings.LastIndex(out, "restarted member ") != i {
		t.Errorf("the leader was not the last:\n%s", out)
	}
	if num, err := pg.VersionNum(next); err != nil || w.sql("SHOW server_version_num") != strconv.Itoa(num) {
		t.Errorf("the leader runs %s, want %d", w.sql("SHOW server_version_num"), num)
	}
	w.planned(0, "nothing to change", file)
}
