package archive

import (
	"crypto/sha1" //nolint:gosec // the format's checksum
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"howdah/backup/repo"
	"howdah/backup/repo/mem"
	"howdah/backup/stanza"
	"howdah/pg"
)

const (
	small = 1 << 20 // bytes of a segment here
	id    = "15-1"
)

var db = repo.DB{System: 7710185380771481590, Version: "15", Catalog: 202209061, Control: 1300}

func opened(t *testing.T, pass string) *stanza.Stanza {
	t.Helper()
	s := &stanza.Stanza{Storage: &mem.Store{}, Name: "t", Repo: 1}
	if pass != "" {
		s.Pass = "phrase"
	}
	if err := s.Create(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return s
}

// logged writes a segment's file whose pages say where they belong.
func logged(t *testing.T, data, name string, begins uint64) []byte {
	t.Helper()
	text := make([]byte, small)
	for at := 0; at < small; at += pageSize {
		binary.NativeEndian.PutUint16(text[at:], 0xD110)
		binary.NativeEndian.PutUint64(text[at+8:], begins+uint64(at))
		copy(text[at+24:at+pageSize], strings.Repeat(fmt.Sprintf("%s %d ", name, at), 40))
	}
	if err := os.MkdirAll(filepath.Join(data, "pg_wal"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "pg_wal", name), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return text
}

func segments(t *testing.T, s *stanza.Stanza) []string {
	t.Helper()
	all, err := Tails(t.Context(), s, id, "")
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(all))
}

// The log is stored as it comes, and comes out as it was, with nothing behind it.
func TestStream(t *testing.T) {
	for _, pass := range []string{"", "phrase"} {
		t.Run("pass "+pass, func(t *testing.T) {
			data, s := t.TempDir(), opened(t, pass)
			one := logged(t, data, "000000010000000000000011", 0x1100000)
			two := logged(t, data, "000000010000000000000012", 0x1200000)
			stream := &Stream{Path: data, Stanza: s, DB: db, Coding: repo.Coding{Compress: repo.Zstd, Level: 1}}
			for _, to := range []uint64{0x1100100, 0x1100100, 0x1104321, 0x11FFFFF, 0x1200000, 0x1210203, 0x1200000} {
				if err := stream.Ship(t.Context(), Position{Timeline: 1, LSN: pg.LSN(to), Size: small}); err != nil {
					t.Fatalf("to %X: %v", to, err)
				}
			}
			if at := stream.At(); at.LSN != 0x1210203 {
				t.Errorf("it stands at %s", at.LSN)
			}
			all, err := Tails(t.Context(), s, id, "")
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string][]byte{
				"000000010000000000000011": one, "000000010000000000000012": append(two[:0x10203:0x10203], make([]byte, small-0x10203)...),
			} {
				path := filepath.Join(t.TempDir(), name)
				if err := all[name].Into(t.Context(), s, path, small); err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(path); err != nil || string(got) != string(want) {
					t.Errorf("%s: %d bytes, %v, and not those that it was made of", name, len(got), err)
				}
			}
			cut := filepath.Join(t.TempDir(), "cut")
			if err := all["000000010000000000000011"].Upto(0x4000).Into(t.Context(), s, cut, small); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(cut); err != nil || string(got) != string(one[:0x4000])+strings.Repeat("\x00", small-0x4000) {
				t.Errorf("cut at a place: %d bytes, %v", len(got), err)
			}
		})
	}
}

// A file that was given to another segment is not taken for what it was.
func TestStreamOfARecycledFile(t *testing.T) {
	data, s := t.TempDir(), opened(t, "")
	logged(t, data, "000000010000000000000011", 0x0900000)
	stream := &Stream{Path: data, Stanza: s, DB: db, Coding: repo.Coding{Compress: repo.Zstd, Level: 1}}
	if err := stream.Ship(t.Context(), Position{Timeline: 1, LSN: 0x1104000, Size: small}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it ends with %v", err)
	}
	if all := segments(t, s); len(all) > 0 {
		t.Errorf("stored are %v", all)
	}
	other := db
	other.System++
	stream = &Stream{Path: data, Stanza: s, DB: other}
	if err := stream.Ship(t.Context(), Position{Timeline: 1, LSN: 0x1104000, Size: small}); repo.ClassOf(err) != repo.ArchiveMismatch {
		t.Errorf("of another database: %v", err)
	}
}

// A piece that is damaged is not used.
func TestDamagedTail(t *testing.T) {
	s := opened(t, "")
	sum := sha1.Sum([]byte("what was written"))
	p := repo.Piece{To: 16, Checksum: hex.EncodeToString(sum[:]), Coding: repo.None}
	const name = "000000010000000000000011"
	if err := s.Put(t.Context(), repo.TailPath("t", id, name, p.String()), func(w io.Writer) error { _, err := io.WriteString(w, "what is there 12"); return err }); err != nil {
		t.Fatal(err)
	}
	all, err := Tails(t.Context(), s, id, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := all[name].Into(t.Context(), s, filepath.Join(t.TempDir(), "x"), small); repo.ClassOf(err) != repo.Checksum {
		t.Errorf("it ends with %v", err)
	}
}

// Tails go when their segments are archived, or no backup leads to them; what a
// timeline had that was left stays.
func TestSweepTails(t *testing.T) {
	s := opened(t, "")
	put := func(name string) {
		if err := s.Put(t.Context(), name, func(io.Writer) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	piece := repo.Piece{To: 9, Checksum: strings.Repeat("0", 40), Coding: repo.Zstd}
	for _, name := range []string{"000000010000000000000002", "000000010000000000000005", "000000010000000000000006", "000000020000000000000006", "000000020000000000000007"} {
		put(repo.TailPath("t", id, name, piece.String()))
	}
	info, err := s.BackupInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info.Add(repo.Backup{Label: "20261122-120000F", Type: repo.Full, DB: 1, ArchiveStart: "000000010000000000000004", ArchiveStop: "000000010000000000000004"})
	if err := s.SaveBackupInfo(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"000000010000000000000005", "000000020000000000000006", "000000020000000000000007"} {
		put(repo.WALPath("t", id, repo.Segment{Name: name, Checksum: strings.Repeat("0", 40), Coding: repo.Zstd}.String()))
	}
	if err := SweepTails(t.Context(), s, "000000020000000000000007"); err != nil {
		t.Fatal(err)
	}
	if got, want := segments(t, s), []string{"000000010000000000000006", "000000020000000000000007"}; !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}
}
