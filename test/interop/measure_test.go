package interop

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"howdah/pg"
	"howdah/test/tests3"
)

var (
	measured = flag.Bool("measured", false, "measure both programs beside each other (make bench-backup)")
	megs     = flag.Int("mb", 1024, "size of the measured cluster in MB")
	walFiles = flag.Int("segments", 200, "WAL segments that are pushed and fetched")
	small    = flag.Int("files", 100000, "small files")
)

// A contest is what is measured: the two programs, each with a repository of its
// own, on the same data.
type contest struct {
	*lab
	rows []string
}

// conf writes a configuration for one of them.
func (c *contest) conf(name, data string, lines ...string) string {
	c.Helper()
	for _, dir := range []string{"repo-" + name, "spool-" + name} {
		c.dirFor(filepath.Join(c.dir, dir))
	}
	path := filepath.Join(c.dir, name+".conf")
	text := fmt.Sprintf("[global]\nlog-path=%[1]s/log\nlog-level-console=off\nlog-level-file=off\nlock-path=%[1]s/lock-%[2]s\nspool-path=%[1]s/spool-%[2]s\nstart-fast=y\nrepo1-retention-full=9\ncompress-type=zst\nprocess-max=2\n%[3]s\n[t]\npg1-path=%[4]s\npg1-socket-path=%[5]s\n",
		c.dir, name, strings.Join(lines, "\n"), data, c.server.Node.Paths.Sockets)
	if !strings.Contains(text, "repo1-path") {
		text = strings.Replace(text, "[global]\n", fmt.Sprintf("[global]\nrepo1-path=%s/repo-%s\n", c.dir, name), 1)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		c.Fatal(err)
	}
	return path
}

func (c *contest) dirFor(path string) {
	c.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		c.Fatal(err)
	}
	chown(c, path)
}

// timed runs a program, which must end well, and says how long it took.
func (c *contest) timed(program, conf string, args ...string) time.Duration {
	c.Helper()
	began := time.Now()
	out, code := c.try(program, append([]string{"--config=" + conf, "--stanza=t"}, args...)...)
	took := time.Since(began)
	if code != 0 {
		c.Fatalf("%s %v ends with %d:\n%s", program, args, code, out)
	}
	return took
}

// row adds a line of the table: theirs, ours, and the bound of their ratio.
func (c *contest) row(what string, theirs, ours time.Duration, bytes int64, bound string) {
	rate := func(t time.Duration) string {
		text := fmt.Sprintf("%.2f s", t.Seconds())
		if bytes > 0 {
			text += fmt.Sprintf(" (%.0f MB/s)", float64(bytes)/1e6/t.Seconds())
		}
		return text
	}
	them, ratio := "", ""
	if theirs > 0 {
		them, ratio = rate(theirs), fmt.Sprintf("%.2f", theirs.Seconds()/ours.Seconds())
	}
	line := fmt.Sprintf("| %s | %s | %s | %s | %s |", what, them, rate(ours), ratio, bound)
	c.rows = append(c.rows, line)
	c.Log(line)
}

// sizeOf is what a directory holds.
func (c *contest) sizeOf(dir string) (n int64) {
	c.Helper()
	if err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if st, err := e.Info(); err == nil {
				n += st.Size()
			}
		}
		return nil
	}); err != nil {
		c.Fatal(err)
	}
	return n
}

// orders makes a table of so many bytes: keys, numbers, times, names and words,
// which compress to about 1 in 2.6.
func (c *contest) orders(bytes int) {
	c.Helper()
	random := rand.New(rand.NewPCG(1, uint64(bytes)))
	words := make([]string, 3000)
	for i := range words {
		for range 3 + random.IntN(7) {
			words[i] += string(rune('a' + random.IntN(26)))
		}
	}
	word := func() string { return words[min(random.IntN(3000), random.IntN(3000))] }
	path := filepath.Join(c.dir, "orders.txt")
	f, err := os.Create(path)
	if err != nil {
		c.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	for id := 0; id*150 < bytes; id++ { // bytes of a row and of its place in an index
		fmt.Fprintf(w, "%d\t%d\t%d.%02d\t2026-%02d-%02d %02d:%02d:%02d\t%s\t%s %s\t%s %s %s %s %s\n", id, random.IntN(100000), random.IntN(10000), random.IntN(100),
			1+random.IntN(12), 1+random.IntN(28), random.IntN(24), random.IntN(60), random.IntN(60),
			[]string{"open", "paid", "sent", "late", "void"}[random.IntN(5)], word(), word(), word(), word(), word(), word(), word())
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		c.Fatal(err)
	}
	chown(c, path)
	c.server.Query("create table if not exists orders (id int, account int, amount numeric, placed timestamptz, state text, who text, note text)")
	c.server.Query("copy orders from '" + path + "'")
	if err := os.Remove(path); err != nil {
		c.Fatal(err)
	}
}

// TestMeasure is make bench-backup.
func TestMeasure(t *testing.T) {
	if !*measured {
		t.Skip("only with -measured: it takes minutes")
	}
	c := &contest{lab: newLab(t, setting{compress: "zst"})}
	data := c.server.Node.Postgres.Data
	c.server.Query("alter system set archive_command = 'test pgbackrest'")
	c.server.Query("alter system set max_wal_size = '8GB'")
	c.server.Query("alter system set wal_keep_size = '2GB'")
	c.server.Query("select pg_reload_conf()")
	c.orders(*megs << 20)
	c.server.Query("create index on orders (account)")
	c.server.Query("checkpoint")
	version, _ := c.try(theirs, "version")
	level1, level3 := "compress-level=1", "compress-level=3"
	contests := []struct{ name, program, level string }{{"theirs", theirs, level3}, {"ours3", ours, level3}, {"ours1", ours, level1}}
	confs, full, incr, size := map[string]string{}, map[string]time.Duration{}, map[string]time.Duration{}, map[string]int64{}
	bytes := c.sizeOf(data) - c.sizeOf(filepath.Join(data, "pg_wal"))
	for _, p := range contests {
		confs[p.name] = c.conf(p.name, data, p.level, "archive-check=n")
		c.timed(p.program, confs[p.name], "stanza-create")
		full[p.name] = c.timed(p.program, confs[p.name], "--type=full", "--no-archive-check", "backup")
		size[p.name] = c.sizeOf(filepath.Join(c.dir, "repo-"+p.name, "backup"))
	}
	ratio := float64(bytes) / float64(size["theirs"])
	c.row("full backup, ours at zst level 1", full["theirs"], full["ours1"], bytes, fmt.Sprintf("≥ 1.0; repository %+.1f %% (≤ 3)", 100*(float64(size["ours1"])/float64(size["theirs"])-1)))
	c.row("full backup, ours at zst level 3", full["theirs"], full["ours3"], bytes, fmt.Sprintf("≥ 0.8; repository %+.1f %%", 100*(float64(size["ours3"])/float64(size["theirs"])-1)))
	c.server.Query("update orders set amount = amount + 1 where id <= (select max(id) / 100 from orders)")
	c.server.Query("checkpoint")
	for _, p := range contests {
		incr[p.name] = c.timed(p.program, confs[p.name], "--type=incr", "--no-archive-check", "backup")
	}
	c.row("incremental after a change of 1 %", incr["theirs"], incr["ours3"], 0, "")
	back, delta := map[string]time.Duration{}, map[string]time.Duration{}
	for _, p := range contests[:2] {
		dir := filepath.Join(c.dir, "back-"+p.name)
		c.dirFor(dir)
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		conf := c.conf(p.name+"-back", dir, p.level, "repo1-path="+filepath.Join(c.dir, "repo-"+p.name))
		back[p.name] = c.timed(p.program, conf, "restore")
		first, err := filepath.Glob(filepath.Join(dir, "base/*/*"))
		if err != nil || len(first) == 0 {
			t.Fatal(err)
		}
		for i, path := range first {
			if i%100 == 0 { // what a delta restore is for
				if err := os.WriteFile(path, []byte("something else"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		delta[p.name] = c.timed(p.program, conf, "--delta", "restore")
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	c.row("restore", back["theirs"], back["ours3"], bytes, "")
	c.row("delta restore, 1 % of the files changed", delta["theirs"], delta["ours3"], bytes, "")
	c.smallFiles(data)
	c.log(data)
	t.Logf("%s", strings.Join(append([]string{
		fmt.Sprintf("%s beside ours on %d processors, 2 processes each; a cluster of %.0f MB that theirs compresses to 1 in %.2f:", strings.TrimSpace(version), runtime.NumCPU(), float64(bytes)/1e6, ratio),
		"", "| what | pgBackRest, zst level 3 | Howdah | ratio | bound |", "|---|---|---|---|---|",
	}, c.rows...), "\n"))
}

// smallFiles compares many small files with one of their size, in bundles.
func (c *contest) smallFiles(data string) {
	c.Helper()
	dir := filepath.Join(data, "many")
	c.dirFor(dir)
	text := []byte(strings.Repeat("a small file, of a table that somebody made for each customer; ", 64))
	took := map[string]time.Duration{}
	run := func(kind string) {
		for _, p := range []struct{ name, program string }{{"theirs", theirs}, {"ours", ours}} {
			conf := c.conf(kind+"-"+p.name, data, "compress-level=3", "repo1-bundle=y")
			c.timed(p.program, conf, "stanza-create")
			took[kind+p.name] = c.timed(p.program, conf, "--type=full", "--no-archive-check", "backup")
			if err := os.RemoveAll(filepath.Join(c.dir, "repo-"+kind+"-"+p.name)); err != nil {
				c.Fatal(err)
			}
		}
	}
	c.server.Query("drop table orders")
	c.server.Query("checkpoint")
	one := filepath.Join(dir, "one")
	f, err := os.Create(one)
	if err != nil {
		c.Fatal(err)
	}
	for i := range *small {
		if _, err := f.Write(append(binary.BigEndian.AppendUint64(nil, uint64(i)*0x9E3779B97F4A7C15), text...)); err != nil {
			c.Fatal(err)
		}
	}
	f.Close()
	chown(c, one)
	run("one")
	if err := os.Remove(one); err != nil {
		c.Fatal(err)
	}
	for i := range *small {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, append(binary.BigEndian.AppendUint64(nil, uint64(i)*0x9E3779B97F4A7C15), text...), 0o600); err != nil {
			c.Fatal(err)
		}
		chown(c, path)
	}
	run("many")
	if err := os.RemoveAll(dir); err != nil {
		c.Fatal(err)
	}
	c.row(fmt.Sprintf("%d files of 4 kB, bundled", *small), took["manytheirs"], took["manyours"], int64(*small)*4096, "")
	c.rows[len(c.rows)-1] = strings.TrimSuffix(c.rows[len(c.rows)-1], " |") + fmt.Sprintf("≤ 1.3 × one file of their size: %.2f (theirs %.2f) |", took["manyours"].Seconds()/took["oneours"].Seconds(), took["manytheirs"].Seconds()/took["onetheirs"].Seconds())
}

// log measures pushing and fetching.
func (c *contest) log(data string) {
	c.Helper()
	wal := filepath.Join(data, "pg_wal")
	c.orders(min(*megs, 250) << 20)
	c.server.Query("select pg_switch_wal()")
	system := c.server.Query("select pg_walfile_name(pg_current_wal_lsn())")
	models, err := filepath.Glob(filepath.Join(wal, "0000*"))
	if err != nil {
		c.Fatal(err)
	}
	const segment = 16 << 20
	// A data directory of which the archiver would push so many files.
	fake := filepath.Join(c.dir, "fake")
	for _, dir := range []string{"", "global", "pg_wal", "pg_wal/archive_status", "got"} {
		c.dirFor(filepath.Join(fake, dir))
	}
	for _, name := range []string{"PG_VERSION", "global/pg_control"} {
		text, err := os.ReadFile(filepath.Join(data, name))
		if err != nil {
			c.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(fake, name), text, 0o600); err != nil {
			c.Fatal(err)
		}
		chown(c, filepath.Join(fake, name))
	}
	var names []string
	for i := 0; len(names) < *walFiles; i++ {
		text, err := os.ReadFile(models[i%len(models)])
		if err != nil {
			c.Fatal(err)
		}
		model := filepath.Base(models[i%len(models)])
		if len(text) != segment || model >= system {
			if i > 100000 {
				c.Fatalf("too little WAL: %v", models)
			}
			continue
		}
		at := pg.LSN(uint64(len(names)+1) * segment)
		binary.LittleEndian.PutUint64(text[8:], uint64(at)) // another content for each
		name := pg.Timeline(1).Segment(at, segment)
		if err := os.WriteFile(filepath.Join(fake, "pg_wal", name), text, 0o600); err != nil {
			c.Fatal(err)
		}
		chown(c, filepath.Join(fake, "pg_wal", name))
		names = append(names, name)
	}
	total := int64(len(names)) * segment
	push := func(name, program, level, prefix string) time.Duration {
		conf := c.conf("push-"+name, data, level, "archive-async=y")
		c.timed(program, conf, "stanza-create")
		conf = c.conf("push-"+name, fake, level, "archive-async=y")
		for _, n := range names {
			if err := os.WriteFile(filepath.Join(fake, "pg_wal/archive_status", n+".ready"), nil, 0o600); err != nil {
				c.Fatal(err)
			}
		}
		command := fmt.Sprintf("%s --config=%s --stanza=t archive-push %%p", program, conf)
		if prefix != "" {
			command = fmt.Sprintf(`test %s/spool-push-%s/archive/t/out/%%f.ok -nt "%%p" || %s`, c.dir, name, command)
		}
		took := c.each(fake, command, names, func(n string) string { return "pg_wal/" + n }, func(n string) {
			if err := os.Remove(filepath.Join(fake, "pg_wal/archive_status", n+".ready")); err != nil {
				c.Fatal(err)
			}
		})
		if stored, _ := filepath.Glob(filepath.Join(c.dir, "repo-push-"+name, "archive/t/15-1/*/*.zst")); len(stored) != len(names) {
			c.Errorf("%s stored %d of %d segments", name, len(stored), len(names))
		}
		return took
	}
	them := push("theirs", theirs, "compress-level=3", "")
	c.row(fmt.Sprintf("push of %d segments, asynchronous, both at level 3", len(names)), them, push("ours3", ours, "compress-level=3", ""), total, "≥ 1.5")
	c.remove("repo-push-ours3")
	c.row("… ours at level 1", them, push("ours1", ours, "compress-level=1", ""), total, "≥ 1.5")
	c.remove("repo-push-ours1")
	c.row("… and as a cluster of ours does", them, push("cluster", ours, "compress-level=1", "test"), total, "≥ 1.5")
	c.remove("repo-push-cluster")
	if os.Getenv("HOWDAH_PEERS") == "" {
		return
	}
	server := tests3.Start(c.T, "pgsql")
	server.Lag = 20 * time.Millisecond
	if err := os.MkdirAll(filepath.Join(server.Objects, "pgsql/pgbackrest"), 0o755); err != nil {
		c.Fatal(err)
	}
	if err := os.Rename(filepath.Join(c.dir, "repo-push-theirs/archive"), filepath.Join(server.Objects, "pgsql/pgbackrest/archive")); err != nil {
		c.Fatal(err)
	}
	for _, n := range names {
		if err := os.Remove(filepath.Join(fake, "pg_wal", n)); err != nil {
			c.Fatal(err)
		}
	}
	get := func(name, program, prefix string) time.Duration {
		conf := c.conf("get-"+name, fake, bucket(server, 1), "archive-async=y", "process-max=8")
		text, err := os.ReadFile(conf)
		if err != nil {
			c.Fatal(err)
		}
		if err := os.WriteFile(conf, []byte(strings.Replace(string(text), "process-max=2\n", "", 1)), 0o644); err != nil {
			c.Fatal(err)
		}
		command := fmt.Sprintf(`%s --config=%s --stanza=t archive-get %%f "%%p"`, program, conf)
		if prefix != "" {
			command = fmt.Sprintf(`mv -f %s/spool-get-%s/archive/t/in/%%f "%%p" 2>/dev/null || %s`, c.dir, name, command)
		}
		return c.each(fake, command, names, func(string) string { return "got/RECOVERYXLOG" }, func(n string) {
			if st, err := os.Stat(filepath.Join(fake, "got/RECOVERYXLOG")); err != nil || st.Size() != segment {
				c.Fatalf("%s: %v", n, err)
			}
			if err := os.Remove(filepath.Join(fake, "got/RECOVERYXLOG")); err != nil {
				c.Fatal(err)
			}
		})
	}
	what := fmt.Sprintf("get of %d segments from a bucket, 20 ms a request", len(names))
	them = get("theirs", theirs, "")
	c.row(what, them, get("ours", ours, ""), total, "≥ 300 MB/s")
	c.row("… and as a cluster of ours does", them, get("cluster", ours, "mv"), total, "≥ 300 MB/s")
}

func (c *contest) remove(dir string) {
	c.Helper()
	if err := os.RemoveAll(filepath.Join(c.dir, dir)); err != nil {
		c.Fatal(err)
	}
}

// each runs a command as PostgreSQL does, for one file after the other.
func (c *contest) each(dir, command string, names []string, path func(string) string, done func(string)) time.Duration {
	c.Helper()
	began := time.Now()
	for _, n := range names {
		text := strings.NewReplacer("%f", n, "%p", path(n)).Replace(command)
		cmd := exec.Command("sh", "-c", text)
		cmd.Dir = dir
		as(c, cmd)
		if out, err := cmd.CombinedOutput(); err != nil {
			c.Fatalf("%s: %v\n%s", text, err, out)
		}
		done(n)
	}
	return time.Since(began)
}
