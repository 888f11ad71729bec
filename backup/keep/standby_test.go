package keep

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"howdah/backup/repo"
	"howdah/backup/take"
	"howdah/pki"
	"howdah/spec"
	"howdah/test/testpg"
)

// pair is a primary and its standby, each with a keeper whose door is open, and a file
// beside the relations of both that says whose it is.
func pair(t *testing.T) (leader, follower *Keeper, primary, standby *testpg.Server) {
	t.Helper()
	a := testpg.Start(t, testpg.Primary(), testpg.Named("a"))
	a.Query("create table t as select g, md5(g::text) m from generate_series(1, 20000) g")
	b := testpg.Start(t, testpg.StandbyOf(a), testpg.Named("b"))
	dir := t.TempDir()
	ca, err := pki.OpenAuthority(filepath.Join(dir, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	nodes, doors := []spec.Node{}, []*httptest.Server{}
	for _, s := range []*testpg.Server{a, b} {
		n := s.Node
		n.Cluster, n.Backup = "t", spec.Backup{Repo: filepath.Join(beside(t, s), "repo"), Copies: 1, Standby: true}
		if n.TLS, err = ca.Issue(filepath.Join(dir, n.Member), n.Member, netip.MustParseAddr("127.0.0.1")); err != nil {
			t.Fatal(err)
		}
		doors = append(doors, httptest.NewUnstartedServer(nil))
		nodes = append(nodes, n)
		path := filepath.Join(n.Postgres.Data, "base/1/whose")
		if err := os.WriteFile(path, []byte(n.Member), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var keepers []*Keeper
	for i, n := range nodes {
		for j, d := range doors {
			n.Backup.Members = append(n.Backup.Members, spec.Holder{Member: nodes[j].Member, URL: "https://" + d.Listener.Addr().String()})
		}
		k, err := New(n, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		k.leads = func() bool { return i == 0 }
		doors[i].Config.Handler, doors[i].TLS = k.handler(), k.server.Clone()
		doors[i].StartTLS()
		t.Cleanup(doors[i].Close)
		keepers = append(keepers, k)
	}
	if err := keepers[0].desk.Create(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	return keepers[0], keepers[1], a, b
}

// backupFrom makes a backup of the leader's server that copies from a standby.
func backupFrom(ctx context.Context, k *Keeper, from take.Standby, prefer, bundle bool) (repo.Backup, error) {
	return k.desk.Backup(ctx, take.Backup{
		Type: repo.Full, Coding: codingBackup, Workers: 2, Fast: true, Bundle: bundle, BundleSize: 1 << 20, BundleLimit: 128 << 10,
		Standby: from, PreferStandby: prefer, Wait: archiveWait,
	}, nil)
}

// sound says whose disk a backup was copied from, and reads all of it.
func sound(t *testing.T, k *Keeper, label string) string {
	t.Helper()
	s := k.stanza()
	info, err := s.BackupInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Manifest(t.Context(), label, info)
	if err != nil {
		t.Fatal(err)
	}
	whose := ""
	for i := range m.Files {
		f := &m.Files[i]
		var content bytes.Buffer
		if f.Size > 0 || f.Bundle == 0 && !m.Bundle {
			object, at, length := m.Object(s.Name, f)
			sealed, err := s.Fetch(t.Context(), object, at, length, repo.Coding{Compress: repo.Compression(m.Options.CompressType), Pass: m.Cipher}, &content)
			if err != nil || f.Size > 0 && sealed.Checksum != f.Checksum {
				t.Errorf("%s in %s: %v", f.Name, object, err)
			}
		}
		if f.PageOK != nil && !*f.PageOK {
			t.Errorf("%s has wrong pages: %s", f.Name, f.PageError)
		}
		if f.Name == "pg_data/base/1/whose" {
			whose = content.String()
		}
	}
	return whose
}

// The leader's backup is copied from the disk of a member that follows, over the door.
func TestCopiedFromStandby(t *testing.T) {
	a, b, _, _ := pair(t)
	ways := []bool{true}
	if os.Getenv("NIGHTLY") != "" {
		ways = []bool{true, false}
	}
	for _, bundle := range ways {
		from := a.lender(t.Context())
		if from == nil {
			t.Fatal("no standby answers")
		}
		done, err := backupFrom(t.Context(), a, from, false, bundle)
		if err != nil {
			t.Fatal(err)
		}
		if whose := sound(t, a, done.Label); whose != "b" || !done.Standby {
			t.Errorf("it is copied from %q; backup.info says standby=%t", whose, done.Standby)
		}
		from.Close()
		until(t, "the standby is let go", func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.lends == nil
		})
		// Afterwards nobody gets files there, and never one that is not replicated.
		if _, err := from.Copy(t.Context(), take.Batch{Files: []take.Wanted{{Name: "pg_data/PG_VERSION", Size: 3}}}, io.Discard, func(int) error { return nil }); err == nil {
			t.Error("files are given away without a backup")
		}
	}
}

// A backup waits for a standby that has fallen behind, says so, and goes on when that
// has caught up.
func TestWaitsForStandby(t *testing.T) {
	a, _, primary, b := pair(t)
	receiver, err := strconv.Atoi(b.Query("select pid from pg_stat_wal_receiver"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(receiver, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(receiver, syscall.SIGCONT) })
	primary.Query("select pg_logical_emit_message(false, 'x', repeat('x', 3000000))")
	primary.Query("create table later ()") // it waits until that is flushed
	var told []string
	done, err := a.desk.Backup(t.Context(), take.Backup{
		Type: repo.Full, Coding: codingBackup, Workers: 2, Fast: true, Bundle: true, BundleSize: 1 << 20, BundleLimit: 128 << 10, Wait: archiveWait,
		Lag: 1 << 20, Waits: func(what string) {
			if told = append(told, what); what != "" {
				_ = syscall.Kill(receiver, syscall.SIGCONT)
			}
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(told) != 2 || !strings.HasPrefix(told[0], "b to catch up, which is ") || told[1] != "" {
		t.Errorf("it told %q", told)
	}
	sound(t, a, done.Label)
}

// What a standby is not to give: nothing but what is replicated, whatever its name.
func TestNotAStandbysToGive(t *testing.T) {
	_, k, _, _ := pair(t)
	l := &lending{id: "s"}
	k.lends = l
	for _, name := range []string{"pg_data/postgresql.conf", "pg_data/global/pg_control", "pg_data/base/../pg_hba.conf", "/etc/passwd", "pg_tblspc/../x", "../x"} {
		body := strings.NewReader(`{"files":[{"Name":"` + name + `","Size":10}]}`)
		w := httptest.NewRecorder()
		k.copyFor(w, httptest.NewRequest("POST", pathCopy+"?session=s", body))
		if w.Code != 400 {
			t.Errorf("%s is given: %d %s", name, w.Code, w.Body)
		}
	}
}

// treacherous is a standby that is promoted while files are copied from it.
type treacherous struct {
	take.Standby
	at     int32
	copies atomic.Int32
	turn   func()
}

func (s *treacherous) Copy(ctx context.Context, b take.Batch, w io.Writer, read func(int) error) ([]take.Copied, error) {
	found, err := s.Standby.Copy(ctx, b, w, read)
	if s.copies.Add(1) == s.at {
		s.turn()
	}
	return found, err
}

// A standby that is promoted in the middle goes on giving files, of a history that is
// not the primary's: none of them is in a backup.
func TestStandbyTurnsPrimary(t *testing.T) {
	a, _, _, s := pair(t)
	from := a.lender(t.Context())
	if from == nil {
		t.Fatal("no standby answers")
	}
	defer from.Close()
	var said atomic.Pointer[string]
	a.desk.Voice = func(level slog.Level, text string) {
		if level >= slog.LevelWarn {
			said.Store(&text)
		}
	}
	turn := &treacherous{Standby: from, at: 2, turn: func() { s.Query("select pg_promote()") }}
	done, err := backupFrom(t.Context(), a, turn, true, true)
	if err != nil {
		t.Fatal(err)
	}
	if turn.copies.Load() < 2 {
		t.Fatal("nothing was copied after it: the test tests nothing")
	}
	if whose := sound(t, a, done.Label); whose != "a" || done.Standby {
		t.Errorf("it is copied from %q; backup.info says standby=%t", whose, done.Standby)
	}
	if text := said.Load(); text == nil || !strings.Contains(*text, "the backup is made from the primary") {
		t.Errorf("nothing is said of it: %v", text)
	}
	bundles, err := a.stanza().List(t.Context(), repo.BackupPath("t", done.Label, "bundle"))
	if err != nil || slices.ContainsFunc(bundles, func(e repo.Entry) bool { return e.Size == 0 }) {
		t.Errorf("%v, %v", bundles, err)
	}
	// Who insists on a standby gets an error, and no backup.
	again := a.lender(t.Context())
	if again == nil {
		t.Fatal("it does not answer")
	}
	defer again.Close()
	if _, err := backupFrom(t.Context(), a, again, false, true); err == nil || !strings.Contains(err.Error(), "no standby") {
		t.Errorf("a backup from a server that is none: %v", err)
	}
}
