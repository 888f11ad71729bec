package interop

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"howdah/postgres"
)

// Chosen databases: those left out are holes of their size, the same files that the
// real one leaves out; the others are there, and the holes can be dropped.
func TestChosenDatabases(t *testing.T) {
	l := newLab(t, setting{compress: "zst", bundle: true})
	l.with(ours, "stanza-create")
	l.fill()
	for _, db := range []string{"keep", "leave"} {
		l.server.Query("create database " + db)
		l.in(db, "create table t as select g, md5(g::text) m from generate_series(1, 5000) g; create table spaced tablespace sp as select g from generate_series(1, 1000) g")
	}
	l.with(ours, "--type=full", "backup")
	l.archived()
	oid := l.server.Query("select oid from pg_database where datname = 'leave'")
	for _, args := range [][]string{{"--db-include=keep"}, {"--db-exclude=leave"}, {"--db-exclude=" + oid}, {"--db-include=keep", "--db-include=leave"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			at := *l
			at.T = t
			r := at.restore(ours, args...)
			got, want := r.holes(), at.restore(theirs, args...).holes()
			if !slices.Equal(got, want) {
				t.Errorf("holes of ours:\n%s\nof the real one:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if left := slices.ContainsFunc(got, func(name string) bool { return strings.Contains(name, "base/"+oid+"/") }); left != (len(args) == 1) {
				t.Errorf("the database that is left out has holes: %v", left)
			}
			if len(args) > 1 {
				return
			}
			r.query("drop database leave")
			if got := r.query("select (select count(*) from t) || ' ' || string_agg(datname, ' ') from pg_database where datname in ('keep', 'leave')"); got != "20000 keep" {
				t.Errorf("there is %s", got)
			}
		})
	}
	for args, want := range map[string]int{
		"--db-include=nobody": 80, "--db-exclude=nobody": 80, "--db-include=postgres": 81, "--db-include=keep --db-exclude=keep": 81,
	} {
		for _, program := range []string{ours, theirs} {
			dir, conf := filepath.Join(l.dir, "refused"), filepath.Join(l.dir, "refused.conf")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			chown(t, dir)
			l.configure(conf, dir)
			out, code := l.try(program, append([]string{"--config=" + conf, "--stanza=t", "restore"}, strings.Fields(args)...)...)
			if code != want {
				t.Errorf("%s restore %s ends with %d, want %d:\n%s", filepath.Base(program), args, code, want, out)
			}
		}
	}
}

// in has a database of the lab's server do something.
func (l *lab) in(database, sql string) {
	l.Helper()
	programs, err := postgres.Find(15)
	if err != nil {
		l.Fatal(err)
	}
	if out, code := l.try(filepath.Join(programs.Bin, "psql"), "-h", l.server.Node.Paths.Sockets, "-U", "postgres", "-d", database, "-AtXqc", sql); code != 0 {
		l.Fatal(out)
	}
}

// holes are the files with nothing in them but zeros, and their sizes.
func (r *restored) holes() (found []string) {
	r.Helper()
	for _, root := range []string{r.data, filepath.Join(r.dir, "space")} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			if err == nil && len(text) > 0 && len(bytes.Trim(text, "\x00")) == 0 {
				name, _ := filepath.Rel(r.dir, path)
				found = append(found, fmt.Sprintf("%s %d", name, len(text)))
			}
			return err
		})
		if err != nil {
			r.Fatal(err)
		}
	}
	slices.Sort(found)
	return found
}
