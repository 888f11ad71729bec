package stanza

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"howdah/backup/repo"
	"howdah/backup/repo/mem"
	"howdah/secret"
)

const newPhrase = secret.Text("another phrase")

// cut is a store that dies before its nth write.
type cut struct {
	repo.Storage
	left int
}

var errCut = errors.New("killed here")

func (c *cut) step() error {
	if c.left--; c.left < 0 {
		return errCut
	}
	return nil
}

func (c *cut) Put(ctx context.Context, name string, fill func(io.Writer) error) error {
	if err := c.step(); err != nil {
		return err
	}
	return c.Storage.Put(ctx, name, fill)
}

func (c *cut) Remove(ctx context.Context, names ...string) error {
	if err := c.step(); err != nil {
		return err
	}
	return c.Storage.Remove(ctx, names...)
}

// peopled is an encrypted stanza with two backups and a record of a hole.
func peopled(t *testing.T) *Stanza {
	t.Helper()
	s := created(t)
	info, err := s.BackupInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{"20261101-010101F", "20261102-010101F"} {
		m := manifest(label, "")
		m.Cipher, m.DB = "key of "+secret.Text(label), info.DB
		if err := s.FinishManifest(t.Context(), m, info); err != nil {
			t.Fatal(err)
		}
		info.Add(m.Backup())
	}
	if err := s.SaveBackupInfo(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	hole := repo.Hole{First: "000000010000000000000005", Last: "000000010000000000000006", Segments: 2}
	if err := s.save(t.Context(), s.Pass, hole.Bytes(), repo.HolePath("t", "15-1", hole.First+".json")); err != nil {
		t.Fatal(err)
	}
	return s
}

// opens says what a phrase does not open of it, as every reader would go about it; ""
// is nothing.
func opens(t *testing.T, at repo.Storage, pass secret.Text) string {
	t.Helper()
	s := &Stanza{Storage: at, Name: "t", Repo: 1, Pass: pass}
	if _, err := s.ArchiveInfo(t.Context()); err != nil {
		return err.Error()
	}
	info, err := s.BackupInfo(t.Context())
	if err != nil {
		return err.Error()
	}
	if len(info.Backups) != 2 {
		return fmt.Sprintf("%d backups", len(info.Backups))
	}
	for _, b := range info.Backups {
		m, err := s.Manifest(t.Context(), b.Label, info)
		if err != nil {
			return err.Error()
		}
		if m.Cipher != "key of "+secret.Text(b.Label) {
			return b.Label + " has the key " + m.Cipher.Reveal()
		}
	}
	all, err := s.twins(t.Context())
	if err != nil {
		return err.Error()
	}
	if len(all) != 7 {
		return fmt.Sprintf("%d files", len(all))
	}
	for _, w := range all {
		_, err1 := s.openTwin(t.Context(), w, w.main, info)
		_, err2 := s.openTwin(t.Context(), w, w.copy, info)
		if err1 != nil && err2 != nil {
			return err1.Error()
		}
	}
	return ""
}

// Wherever a change of the pass phrase is cut off, the phrase that the configurations
// have opens everything: the old one until it is prepared, then both, and from there on
// the new one. Given again it comes to its end.
func TestRekeyCutAnywhere(t *testing.T) {
	for n := 0; ; n++ {
		s := peopled(t)
		store := s.Storage
		s.Storage = &cut{store, n}
		err := s.PrepareRekey(t.Context(), newPhrase)
		if why := opens(t, store, s.Pass); why != "" {
			t.Fatalf("prepared up to write %d: the old phrase does not open it: %s", n, why)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		s.Storage = store
		if n%2 == 0 { // given up
			if _, err := s.SettleRekey(t.Context()); err != nil {
				t.Fatalf("cut at %d and given up: %v", n, err)
			}
			if written, err := s.SettleRekey(t.Context()); err != nil || written != 0 {
				t.Fatalf("cut at %d and given up twice: %d, %v", n, written, err)
			}
		}
		if err := s.PrepareRekey(t.Context(), newPhrase); err != nil {
			t.Fatalf("cut at %d, and prepared again: %v", n, err)
		}
		for _, pass := range []secret.Text{s.Pass, newPhrase} {
			if why := opens(t, store, pass); why != "" {
				t.Fatalf("cut at %d, and prepared again: %s", n, why)
			}
		}
	}
	for n := 0; ; n++ {
		s := peopled(t)
		if err := s.PrepareRekey(t.Context(), newPhrase); err != nil {
			t.Fatal(err)
		}
		old := s.Pass
		if why := opens(t, s.Storage, old); why != "" {
			t.Fatalf("prepared: the old phrase: %s", why)
		}
		store := s.Storage
		s.Pass = newPhrase
		s.Storage = &cut{store, n}
		_, err := s.SettleRekey(t.Context())
		if why := opens(t, store, newPhrase); why != "" {
			t.Fatalf("settled up to write %d: the new phrase does not open it: %s", n, why)
		}
		s.Storage = store
		if err == nil {
			if why := opens(t, store, old); why == "" {
				t.Error("the old phrase opens it still")
			}
			return
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		if n > 0 && n < 7 { // then all is open to the new one
			if err := s.PrepareRekey(t.Context(), "a third one"); err == nil || !strings.Contains(err.Error(), "end the last change") {
				t.Fatalf("cut at %d: a further change is begun: %v", n, err)
			}
		}
		if _, err := s.SettleRekey(t.Context()); err != nil {
			t.Fatalf("cut at %d, and settled again: %v", n, err)
		}
		if written, err := s.SettleRekey(t.Context()); err != nil || written != 0 {
			t.Fatalf("settled twice: %d, %v", written, err)
		}
		if left := leftovers(t, store.(*mem.Store)); left != "" {
			t.Fatalf("cut at %d: %s is left", n, left)
		}
	}
}

func leftovers(t *testing.T, s *mem.Store) string {
	t.Helper()
	for _, dir := range []string{"backup/t/backup.history/2026", "wal-holes/t/15-1"} {
		list, err := s.List(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if strings.HasSuffix(e.Name, Rekeyed) {
				return e.Name
			}
		}
	}
	return ""
}

// What was written with the old phrase after the change was prepared is seen, and
// nothing is written then.
func TestRekeyOvertaken(t *testing.T) {
	s := peopled(t)
	if err := s.PrepareRekey(t.Context(), newPhrase); err != nil {
		t.Fatal(err)
	}
	info, err := s.BackupInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SaveBackupInfo(t.Context(), info); err != nil { // a backup did
		t.Fatal(err)
	}
	late := &Stanza{Storage: &cut{s.Storage, 0}, Name: "t", Repo: 1, Pass: newPhrase}
	if _, err := late.SettleRekey(t.Context()); err == nil || errors.Is(err, errCut) {
		t.Errorf("it is settled all the same: %v", err)
	}
	if why := opens(t, s.Storage, s.Pass); why != "" {
		t.Error(why)
	}
	if err := s.PrepareRekey(t.Context(), newPhrase); err != nil {
		t.Fatal(err)
	}
	if why := opens(t, s.Storage, newPhrase); why != "" {
		t.Error(why)
	}
}
