package repo

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/secret"
)

// read returns a file that the real pgBackRest 2.45 wrote.
func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if data, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

// forms are the three files, each read and written.
var forms = map[string]func([]byte) ([]byte, error){
	"archive.info": func(b []byte) ([]byte, error) {
		i, err := ParseArchiveInfo(b)
		if err != nil {
			return nil, err
		}
		return i.Bytes(), nil
	},
	"backup.info": func(b []byte) ([]byte, error) {
		i, err := ParseBackupInfo(b)
		if err != nil {
			return nil, err
		}
		return i.Bytes(), nil
	},
	"incr.manifest.gz": manifest, // bundled
	"full.manifest.gz": manifest, // with a tablespace and links
}

func manifest(b []byte) ([]byte, error) {
	m, err := ParseManifest(b)
	if err != nil {
		return nil, err
	}
	return m.Bytes(), nil
}

func TestRealFilesComeOutByteForByte(t *testing.T) {
	for name, form := range forms {
		data := read(t, name)
		got, err := form(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(got, data) {
			a, b := strings.Split(string(got), "\n"), strings.Split(string(data), "\n")
			for i := range min(len(a), len(b)) {
				if a[i] != b[i] {
					t.Errorf("%s line %d\ngot  %s\nwant %s", name, i+1, a[i], b[i])
					break
				}
			}
		}
	}
}

// The line that a manifest has in backup.info is computed from it.
func TestManifestSumsUpAsPgBackRestDoes(t *testing.T) {
	info, err := ParseBackupInfo(read(t, "backup.info"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseManifest(read(t, "incr.manifest.gz"))
	if err != nil {
		t.Fatal(err)
	}
	want, ok := info.Find(m.Label)
	if got := m.Backup(); !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := info.Dependents(info.Backups[0].Label); !slices.Equal(got, []string{m.Label}) {
		t.Errorf("dependents of the full backup: %v", got)
	}
	archive, err := ParseArchiveInfo(read(t, "archive.info"))
	if err != nil || !SameHistory(archive, info) {
		t.Errorf("the histories differ, %v", err)
	}
}

// Every byte of an info file is covered, but for empty lines.
func TestDamageIsSeen(t *testing.T) {
	for name, form := range forms {
		data := read(t, name)
		r := rand.New(rand.NewPCG(1, 2))
		for range 300 {
			at := r.IntN(len(data))
			bad := slices.Clone(data)
			if bad[at] ^= 1 << r.IntN(8); data[at] == '\n' || bad[at] == '\n' {
				continue
			}
			if _, err := form(bad); err == nil {
				t.Errorf("%s: byte %d turned from %q to %q and nobody noticed", name, at, data[at], bad[at])
			}
		}
		cut := data[:bytes.LastIndex(data, []byte("[backrest]"))]
		if _, err := form(cut); ClassOf(err) != Checksum {
			t.Errorf("%s without its checksum: %v", name, err)
		}
		if _, err := form(bytes.Replace(data, []byte("backrest-format=5"), []byte("backrest-format=6"), 1)); ClassOf(err) != BadFormat {
			t.Errorf("%s of another format: %v", name, err)
		}
	}
}

func TestChecksum(t *testing.T) {
	const file = `[backrest]
backrest-format=5
backrest-version="2.59.1"

[db]
db-id=1
db-system-id=7710185380771481590
db-version="15"

[db:history]
1={"db-id":7710185380771481590,"db-version":"15"}

[backrest]
backrest-checksum="8dc3b9d7e5d813c260a2ae16728d1bcaf6b3c87e"
`
	if i, err := ParseArchiveInfo([]byte(file)); err != nil || string(i.Bytes()) != file {
		t.Errorf("%v\n%s", err, i.Bytes())
	}
}

// Names of files may be anything that a file system takes.
func TestOddNames(t *testing.T) {
	m, err := ParseManifest(read(t, "incr.manifest.gz"))
	if err != nil {
		t.Fatal(err)
	}
	m.rest = []Section{{"zz:later", []Line{{"key", `{"a":[1,null]}`}}}}
	for _, name := range []string{"a=b", "a=1", `x={"size":1}`, "[x]", `q"u`, `b\s`, "sp ace", "ü", "#x", "=", `="`} {
		f := File{Name: "pg_data/" + name, Owner: m.FileDefault, Size: 3, Checksum: strings.Repeat("a", 40)}
		f.Owner.User, f.Owner.Mode = Name{Unknown: true}, "0640"
		f.rest = []Line{{"sha256", `"x"`}}
		m.Files = append(m.Files, f)
	}
	m.Sort()
	again, err := ParseManifest(m.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	// A name with `={…}` in it can not be told from its value; pgBackRest reads it the same way.
	if !reflect.DeepEqual(again.Find("pg_data/a=b"), m.Find("pg_data/a=b")) || !reflect.DeepEqual(again.Find(`pg_data/="`), m.Find(`pg_data/="`)) {
		t.Errorf("got %+v", again.Find("pg_data/a=b"))
	}
	if !bytes.Equal(again.Bytes(), m.Bytes()) {
		t.Error("odd names do not come out as they went in")
	}
	for _, bad := range []string{"pg_data/../x", "x", "pg_data//x", "pg_data/.", "pg_data"} {
		if ok := inside(bad); ok != (bad == "pg_data") {
			t.Errorf("inside(%s) = %t", bad, ok)
		}
	}
}

func TestCipher(t *testing.T) {
	want, _ := hex.DecodeString("53616c7465645f5f01020304050607089768f7e0a72fcfd25497d4e670ea5167")
	var b bytes.Buffer
	e := Encrypt(&b, "topsecret", [8]byte{1, 2, 3, 4, 5, 6, 7, 8})
	_, _ = io.WriteString(e, "hello\n")
	if err := e.Close(); err != nil || !bytes.Equal(b.Bytes(), want) {
		t.Errorf("got %x, %v", b.Bytes(), err)
	}
	if got, err := io.ReadAll(Decrypt(&b, "topsecret", false)); string(got) != "hello\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := io.ReadAll(Decrypt(bytes.NewReader(want), "wrong", false)); ClassOf(err) != Crypto || !errors.Is(err, errPadding) {
		t.Errorf("a wrong pass phrase: %v", err)
	}
	if _, err := io.ReadAll(Decrypt(bytes.NewReader(want[:30]), "topsecret", false)); ClassOf(err) != Crypto {
		t.Errorf("a cut object: %v", err)
	}
	if _, err := io.ReadAll(Decrypt(strings.NewReader("plain"), "x", false)); ClassOf(err) != Crypto {
		t.Errorf("no cipher text: %v", err)
	}
}

// Whatever is sealed opens, in pieces of any size, and both sides know the same sums.
func TestCoding(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, c := range Compressions {
		for _, pass := range []secret.Text{"", "secret"} {
			for _, size := range []int{0, 1, 15, 16, 17, 8192, 300_000} {
				if c == Bzip {
					continue // read only
				}
				data := make([]byte, size)
				for i := range data {
					data[i] = byte(r.IntN(8))
				}
				coding := Coding{Compress: c, Level: int(c.Level()), Pass: pass}
				var b bytes.Buffer
				s, err := Seal(&b, coding, [8]byte{9})
				if err != nil {
					t.Fatal(err)
				}
				for rest := data; len(rest) > 0; {
					n := 1 + r.IntN(len(rest))
					if _, err := s.Write(rest[:n]); err != nil {
						t.Fatal(err)
					}
					rest = rest[n:]
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				o, err := Open(&b, coding)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(o)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%v, %d bytes: %v", coding, size, err)
				}
				if o.Sealed() != s.Sealed() && size > 0 {
					t.Errorf("%v: read %+v, written %+v", coding, o.Sealed(), s.Sealed())
				}
			}
		}
	}
	if _, err := Seal(io.Discard, Coding{Compress: Bzip}, [8]byte{}); ClassOf(err) != FeatureUnsupported {
		t.Errorf("writing bz2: %v", err)
	}
}

func TestNames(t *testing.T) {
	const sum = "9112081e5803dbf0102e56e11d7a162ef5149a5b"
	for name, want := range map[string]bool{
		"000000010000000000000001-" + sum: true, "000000010000000000000001-" + sum + ".zst": true,
		"000000010000000000000001.partial-" + sum + ".gz": true, "000000010000000000000001-" + sum + ".xz": false,
		"000000010000000000000004.00000028.backup": false, "00000002.history": false, "00000001000000000000000x-" + sum: false,
	} {
		s, ok := ParseSegment(name)
		if ok != want || ok && s.String() != name {
			t.Errorf("%s reads as %+v, %t", name, s, ok)
		}
	}
	for stored, want := range map[string]string{
		"000000010000000A00000001-" + sum:          "archive/t/15-1/000000010000000A/000000010000000A00000001-" + sum,
		"000000010000000000000004.00000028.backup": "archive/t/15-1/0000000100000000/000000010000000000000004.00000028.backup",
		"00000002.history":                         "archive/t/15-1/00000002.history",
	} {
		if got := WALPath("t", "15-1", stored); got != want {
			t.Errorf("WALPath(%s) = %s", stored, got)
		}
	}
	all, err := Segments("0000000100000000000000FE", "000000010000000100000001", 16<<20)
	if want := []string{"0000000100000000000000FE", "0000000100000000000000FF", "000000010000000100000000", "000000010000000100000001"}; err != nil || !slices.Equal(all, want) {
		t.Errorf("got %v, %v", all, err)
	}
	for _, bad := range [][2]string{{"000000010000000000000002", "000000010000000000000001"}, {"000000010000000000000001", "000000020000000000000001"}, {"x", "y"}} {
		if _, err := Segments(bad[0], bad[1], 16<<20); err == nil {
			t.Errorf("a range from %s to %s", bad[0], bad[1])
		}
	}
	if got := HistoryPath("t", "20261121-142502F_20270101-000000I"); got != "backup/t/backup.history/2027/20261121-142502F_20270101-000000I.manifest.gz" {
		t.Errorf("history of an incremental: %s", got)
	}
}

func TestLabel(t *testing.T) {
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		what        string
		t           Type
		prior, last string
		want        string
	}{
		{"the first", Full, "", "", "20261121-120000F"},
		{"an incremental", Incr, "20261120-120000F_20261121-110000D", "20261120-120000F_20261121-110000D", "20261120-120000F_20261121-120000I"},
		{"in the same second", Diff, "20261121-120000F", "20261121-120000F", "20261121-120000F_20261121-120001D"},
		{"after an hour that came twice", Full, "", "20261121-125900F", "20261121-125901F"},
		{"after a clock that ran a day ahead", Full, "", "20261122-120000F", ""},
	} {
		got, err := Label(tt.t, noon, tt.prior, tt.last)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%s: %s, %v; want %s", tt.what, got, err, tt.want)
		}
		if got != "" && !IsLabel(got) {
			t.Errorf("%s is no label", got)
		}
	}
}

func FuzzInfo(f *testing.F) {
	for _, name := range []string{"archive.info", "backup.info"} {
		f.Add(read(f, name))
	}
	f.Add([]byte("[backrest]\nbackrest-format=5\n\n[a]\nb=={\"c\":[1,null]}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := ParseInfo(data)
		if err != nil {
			return
		}
		again, err := ParseInfo(i.Bytes())
		if err != nil || !bytes.Equal(again.Bytes(), i.Bytes()) {
			t.Errorf("%q\n%v", data, err)
		}
	})
}

// A manifest is fuzzed below its checksum.
func FuzzManifest(f *testing.F) {
	f.Add("target:file", `pg_data/a=b={"size":1,"timestamp":2}`)
	f.Add("backup", `backup-reference="a,b"`)
	f.Add("target:path", `pg_data/x={"mode":"0700","user":false}`)
	base := InfoFile{Version: Version, Sections: []Section{
		{"backup", []Line{{"backup-label", `"20261121-142502F"`}, {"backup-type", `"full"`}}},
		{"backup:db", []Line{{"db-id", "1"}, {"db-system-id", "7710185380771481590"}, {"db-version", `"15"`}}},
		{"backup:target", []Line{{"pg_data", `{"path":"/x","type":"path"}`}}},
	}}
	f.Fuzz(func(t *testing.T, section, line string) {
		key, value, ok := cutLine(line)
		if !ok || strings.ContainsAny(section+line, "\n") {
			return
		}
		i := InfoFile{base.Version, append(slices.Clone(base.Sections), Section{section, []Line{{key, value}}})}
		m, err := ParseManifest(i.Bytes())
		if err != nil {
			return
		}
		again, err := ParseManifest(m.Bytes())
		if err != nil || !bytes.Equal(again.Bytes(), m.Bytes()) {
			t.Errorf("%s %q: %v", section, line, err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	for n := range Compressions {
		f.Add(uint8(n), []byte("Salted__12345678abcdefghijklmnop"))
	}
	f.Fuzz(func(t *testing.T, n uint8, data []byte) {
		for _, pass := range []secret.Text{"", "x"} {
			o, err := Open(bytes.NewReader(data), Coding{Compress: Compressions[int(n)%len(Compressions)], Pass: pass, Raw: n%2 == 0})
			if err != nil {
				continue
			}
			_, _ = io.Copy(io.Discard, io.LimitReader(o, 1<<20))
			_ = o.Close()
		}
	})
}

// Small files are most of a cluster's.
func BenchmarkSealSmall(b *testing.B) {
	data := bytes.Repeat([]byte("some of 8192 bytes "), 431)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		s, err := Seal(io.Discard, Coding{Compress: Zstd, Level: 3}, [8]byte{})
		if err != nil {
			b.Fatal(err)
		}
		_, _ = s.Write(data)
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
