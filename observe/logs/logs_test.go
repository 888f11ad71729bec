package logs

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"howdah/observe/logbook"
	"howdah/problem"
	"howdah/spec"
)

var quiet = slog.New(slog.DiscardHandler)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// nodeIn is a node whose files are below dir.
func nodeIn(t *testing.T) spec.Node {
	t.Helper()
	dir := t.TempDir()
	n := spec.Node{
		Cluster: "demo", Member: "demo-1", Host: "10.10.10.11", Paths: spec.Paths{Dir: dir, Log: filepath.Join(dir, "log")},
		Logs: spec.Logs{Data: filepath.Join(dir, "logs"), Keep: 24 * time.Hour, Size: 1 << 30},
	}
	if err := os.Mkdir(n.Paths.Log, 0o755); err != nil {
		t.Fatal(err)
	}
	return n
}

func placeOf(n spec.Node) Place {
	return Place{Source: logbook.Source{Cluster: n.Cluster, Member: n.Member, IP: n.Host}, Dir: n.Paths.Log, Kept: n.Logs.Data}
}

func write(t testing.TB, n spec.Node, name, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(n.Paths.Log, name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// keeper is one that was just started.
func keeper(t testing.TB, n spec.Node) *Keeper {
	t.Helper()
	k, err := newKeeper(n, &Meter{}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.close)
	return k
}

// turns has a keeper look twice: what nothing follows has ended.
func turns(t testing.TB, k *Keeper, now time.Time) {
	t.Helper()
	for range 2 {
		if err := k.turn(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
}

func flush(t testing.TB, k *Keeper, now time.Time) {
	t.Helper()
	turns(t, k, now)
	if err := k.flush(now); err != nil {
		t.Fatal(err)
	}
}

// found is what Read tells of a place, a message each.
func found(t testing.TB, p Place, q Query) (all []logbook.Record) {
	t.Helper()
	if err := Read(t.Context(), []Place{p}, q, nil, func(r logbook.Record) error { all = append(all, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func messages(all []logbook.Record) string {
	var b []string
	for _, r := range all {
		b = append(b, r.Message)
	}
	return strings.Join(b, " ")
}

// line is one of PostgreSQL's stderr.
func line(at time.Time, level, who, said string) string {
	return fmt.Sprintf("%s UTC [7] %s%s:  %s\n", at.Format("2006-01-02 15:04:05.000"), who, level, said)
}

// What is kept is what was in the files, with all its fields, and found by them.
func TestKept(t *testing.T) {
	n := nodeIn(t)
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	write(t, n, "postgresql.log", line(at(1), "LOG", "", "one")+line(at(3), "ERROR", "app@shop ", "three")+line(at(3), "STATEMENT", "app@shop ", "ALTER ROLE x PASSWORD 'geheim'"))
	write(t, n, "agent.log", "time="+at(2).Format(time.RFC3339Nano)+" level=WARN msg=two epoch=7\n")
	k := keeper(t, n)
	flush(t, k, at(4))
	if err := os.Remove(filepath.Join(n.Paths.Log, "postgresql.log")); err != nil {
		t.Fatal(err)
	}
	flush(t, k, at(5))
	write(t, n, "agent.log", "time="+at(6).Format(time.RFC3339Nano)+" level=INFO msg=six\n") // in no segment yet

	all := found(t, placeOf(n), Query{})
	if got := messages(all); got != "one two three six" {
		t.Fatalf("found %q", got)
	}
	if r := all[2]; !strings.HasSuffix(r.Text(), "three\nSTATEMENT:  ALTER ROLE x PASSWORD '***'") || r.Member != "demo-1" || r.IP != "10.10.10.11" || r.Job != "postgres" ||
		r.Get("user") != "app" || r.Get("pid") != "7" || !r.Time.Equal(at(3)) || r.Level != logbook.Err {
		t.Errorf("of the third there is %s", r)
	}
	if b, err := os.ReadFile(filepath.Join(n.Logs.Data, "0000000001.hlog")); err != nil || bytes.Contains(b, []byte("geheim")) {
		t.Errorf("a password was kept, or nothing was: %v", err)
	}
	for _, tt := range []struct {
		q    Query
		want string
	}{
		{Query{Filter: logbook.Filter{Since: at(2), Until: at(3)}}, "two three"},
		{Query{Filter: logbook.Filter{Level: logbook.Warning}}, "two three"},
		{Query{Filter: logbook.Filter{Level: logbook.Crit}}, ""},
		{Query{Filter: logbook.Filter{User: "app", Database: "shop"}}, "three"},
		{Query{Filter: logbook.Filter{User: "nobody"}}, ""},
		{Query{Filter: logbook.Filter{Jobs: []string{"agent"}}}, "two six"},
		{Query{Filter: logbook.Filter{Grep: regexp.MustCompile("epoch=7")}}, "two"},
		{Query{Last: 1}, "six"},
		{Query{Last: 3}, "two three six"},
		{Query{Last: 1, Filter: logbook.Filter{Level: logbook.Err}}, "three"},
	} {
		if got := messages(found(t, placeOf(n), tt.q)); got != tt.want {
			t.Errorf("%+v finds %q, want %q", tt.q, got, tt.want)
		}
	}
}

// Whatever is written, renamed, and wherever the keeper is ended: nothing is lost, and
// nothing is there twice.
func TestNothingLost(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 1))
		n := nodeIn(t)
		k := keeper(t, n)
		now, count := noon, 0
		open := map[string]string{} // a line that was begun
		for range 120 {
			now = now.Add(time.Duration(r.IntN(4000)) * time.Millisecond)
			name := []string{"postgresql.log", "agent.log"}[r.IntN(2)]
			switch r.IntN(10) {
			case 0: // renamed; what is begun is ended by who has it open
				path := filepath.Join(n.Paths.Log, name)
				write(t, n, name, open[name])
				open[name] = ""
				turns(t, k, now) // a file is renamed once while nobody looks
				if err := os.Rename(path, path+".1"); err != nil {
					t.Fatal(err)
				}
			case 1: // ended in an orderly way
				if err := k.flush(now); err != nil {
					t.Fatal(err)
				}
				k.close()
				k = keeper(t, n)
			case 2: // ended anywhere
				k.close()
				k = keeper(t, n)
			case 3: // in the middle of a block
				k.close()
				if len(k.store.files) > 0 {
					f, err := os.OpenFile(k.store.files[len(k.store.files)-1], os.O_WRONLY|os.O_APPEND, 0)
					if err != nil {
						t.Fatal(err)
					}
					_, _ = f.Write(append([]byte(magic), make([]byte, r.IntN(100))...))
					f.Close()
				}
				k = keeper(t, n)
			case 4:
				turns(t, k, now)
			case 5: // long enough
				if err := k.turn(t.Context(), now.Add(waitFor)); err != nil {
					t.Fatal(err)
				}
			default:
				for range r.IntN(5) {
					text := line(now, "LOG", "", fmt.Sprintf("n%d-%s", count, strings.Repeat("x", r.IntN(300))))
					if name == "agent.log" {
						text = fmt.Sprintf("time=%s level=INFO msg=n%d-\n", now.Format(time.RFC3339Nano), count)
					}
					count++
					text = open[name] + text
					cut := len(text)
					if r.IntN(3) == 0 {
						cut = r.IntN(len(text))
					}
					write(t, n, name, text[:cut])
					open[name] = text[cut:]
				}
			}
		}
		for name, rest := range open {
			write(t, n, name, rest)
		}
		check := func(when string) {
			var seen []int
			for _, one := range found(t, placeOf(n), Query{}) {
				var i int
				if _, err := fmt.Sscanf(one.Message, "n%d-", &i); err != nil {
					t.Fatalf("seed %d: a record %q", seed, one.Message)
				}
				seen = append(seen, i)
			}
			slices.Sort(seen)
			for i := range max(count, len(seen)) {
				if i >= len(seen) || seen[i] != i {
					t.Fatalf("seed %d, %s: of %d records there are %v", seed, when, count, seen)
				}
			}
		}
		check("while it runs")
		flush(t, k, now.Add(time.Minute))
		check("when all is kept")
	}
}

// A file that begins anew, and one that has another's number, are read from their beginning.
func TestAnotherFile(t *testing.T) {
	n := nodeIn(t)
	write(t, n, "agent.log", "time=2026-11-22T12:00:01Z msg=first\ntime=2026-11-22T12:00:01Z msg=second\n")
	k := keeper(t, n)
	flush(t, k, noon)
	path := filepath.Join(n.Paths.Log, "agent.log")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	write(t, n, "agent.log", "time=2026-11-22T12:00:02Z msg=third\n")
	flush(t, k, noon)
	k.close()
	// While nobody looks: as long as before, and something else.
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	write(t, n, "agent.log", "time=2026-11-22T12:00:03Z msg=other\n")
	k = keeper(t, n)
	flush(t, k, noon)
	if got := messages(found(t, placeOf(n), Query{})); got != "first second third other" {
		t.Errorf("found %q", got)
	}
}

// Segments go when they are too old or too much; the newest stays.
func TestLimits(t *testing.T) {
	n := nodeIn(t)
	n.Logs.Size = 1 << 20
	k := keeper(t, n)
	now := noon
	noise := rand.NewChaCha8([32]byte{1})
	fill := func(bytes int) {
		for done := 0; done < bytes; done += 40 << 10 {
			b := make([]byte, 20<<10)
			_, _ = noise.Read(b)
			now = now.Add(time.Second)
			write(t, n, "agent.log", fmt.Sprintf("time=%s msg=x a=%x\n", now.Format(time.RFC3339Nano), b))
			if done%(80<<10) == 0 {
				flush(t, k, now)
			}
		}
		flush(t, k, now)
	}
	size := func() (total int64) {
		for _, path := range k.store.files {
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			total += st.Size()
		}
		return total
	}
	fill(6 << 20)
	if s := size(); s > 1<<20 || s < 1<<19 {
		t.Errorf("%d bytes are kept, of 1 MiB", s)
	}
	newest := found(t, placeOf(n), Query{Last: 1})
	if len(newest) != 1 || !newest[0].Time.Equal(now) {
		t.Errorf("the newest is %v, want %s", newest, now)
	}
	for _, path := range k.store.files {
		if err := os.Chtimes(path, noon, now.Add(-25*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	fill(160 << 10)
	if s := size(); s > 400<<10 {
		t.Errorf("%d bytes are there, though most are too old", s)
	}
}

// What is damaged is told, and what was written behind it is still found; the end of a
// block that is being written is nothing yet.
func TestDamage(t *testing.T) {
	n := nodeIn(t)
	k := keeper(t, n)
	for i := range 3 {
		write(t, n, "agent.log", fmt.Sprintf("time=%s msg=m%d\n", noon.Add(time.Duration(i)*time.Hour).Format(time.RFC3339Nano), i))
		flush(t, k, noon)
	}
	path := k.store.files[0]
	all, _, err := scan(path)
	if err != nil || len(all) != 3 {
		t.Fatalf("%d blocks, %v", len(all), err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := slices.Clone(good)
	bad[all[0].at+all[0].size-1] ^= 1
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := messages(found(t, placeOf(n), Query{Filter: logbook.Filter{Since: noon.Add(time.Minute)}})); got != "m1 m2" {
		t.Errorf("behind the damage there is %q", got)
	}
	if err := Read(t.Context(), []Place{placeOf(n)}, Query{}, nil, func(logbook.Record) error { return nil }); problem.Code(err) != "logs-unreadable" {
		t.Errorf("the damage itself: %v", err)
	}
	if err := os.WriteFile(path, good[:len(good)-3], 0o600); err != nil {
		t.Fatal(err)
	}
	if got := messages(found(t, placeOf(n), Query{})); got != "m0 m1 m2" { // the last one from its file
		t.Errorf("with half a block there is %q", got)
	}
}

// A full disk ends the keeper with a reason, and costs no record.
func TestNoRoom(t *testing.T) {
	n := nodeIn(t)
	write(t, n, "agent.log", "time=2026-11-22T12:00:01Z msg=one\n")
	k := keeper(t, n)
	turns(t, k, noon)
	if err := k.store.limit(1<<60, noon); problem.Code(err) != "logs-store" {
		t.Errorf("without room: %v", err)
	}
	k.close()
	k = keeper(t, n)
	flush(t, k, noon)
	if got := messages(found(t, placeOf(n), Query{})); got != "one" {
		t.Errorf("found %q", got)
	}
}

// Another machine hears the same, also what is written from then on.
func TestAsk(t *testing.T) {
	n := nodeIn(t)
	write(t, n, "postgresql.log", line(noon, "ERROR", "app@shop ", "one")+line(noon.Add(time.Second), "LOG", "", "two"))
	k := keeper(t, n)
	flush(t, k, noon)
	server := httptest.NewServer(Handler(placeOf(n), quiet))
	defer server.Close()
	ask := func(q Query) (all []logbook.Record, err error) {
		err = Ask(t.Context(), server.URL, nil, q, nil, func(r logbook.Record) error { all = append(all, r); return nil })
		return all, err
	}
	all, err := ask(Query{Filter: logbook.Filter{User: "app", Grep: regexp.MustCompile("o.e")}})
	if err != nil || len(all) != 1 || all[0].Get("db") != "shop" || all[0].Member != "demo-1" || !all[0].Time.Equal(noon) {
		t.Errorf("one: %v %v", all, err)
	}
	if all, err := ask(Query{Last: 1}); err != nil || messages(all) != "two" {
		t.Errorf("the last: %v %v", all, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	got, past := make(chan string, 10), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- Ask(ctx, server.URL, nil, Query{Last: 1, Follow: true}, func() error { close(past); return nil }, func(r logbook.Record) error { got <- r.Message; return nil })
	}()
	<-past
	write(t, n, "postgresql.log", line(noon, "LOG", "", "three"))
	for _, want := range []string{"two", "three"} {
		select {
		case s := <-got:
			if s != want {
				t.Errorf("followed %q, want %q", s, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s is not told", want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(n.Paths.Log); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.Paths.Log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(Query{}); err == nil || !strings.Contains(err.Error(), "cannot read the log") {
		t.Errorf("of files that are none: %v", err)
	}
}

// Of a long file only its end is read for a few records.
func TestBegin(t *testing.T) {
	var b strings.Builder
	for i := range 20000 {
		b.WriteString(line(noon.Add(time.Duration(i)*time.Second), "LOG", "", fmt.Sprint("number ", i)))
	}
	n := nodeIn(t)
	write(t, n, "postgresql.log", b.String())
	x, err := openFile(filepath.Join(n.Paths.Log, "postgresql.log"), logbook.Source{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer x.f.Close()
	if at, err := x.begin(int64(b.Len()), Query{Last: 10}); err != nil || at != int64(b.Len())-blockSize {
		t.Errorf("for ten records it is read from %d of %d: %v", at, b.Len(), err)
	}
}

func FuzzDecode(f *testing.F) {
	b, err := newBuilder()
	if err != nil {
		f.Fatal(err)
	}
	b.add(logbook.Record{Source: logbook.Source{Job: "agent"}, Time: noon, Message: "m", Fields: []logbook.Field{{Name: "user", Value: "x"}, {Name: "user", Value: "y"}}})
	f.Add(slices.Clone(b.raw))
	unzip, err := zstd.NewReader(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(_ *testing.T, raw []byte) {
		b.raw = append(b.raw[:0], raw...)
		block, err := b.block(nil)
		if err != nil {
			return
		}
		_, _ = decode(block, logbook.Source{}, unzip) // it may be wrong, and must end
		_, _ = decode(raw, logbook.Source{}, unzip)
		whole(raw)
	})
}

// cpu is how long this process has had a processor.
func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkKeep is what a core keeps of csvlog in a second: MB/cpu-s, on a machine that
// does something else too.
func BenchmarkKeep(b *testing.B) {
	var text bytes.Buffer
	for i := 0; text.Len() < 32<<20; i++ {
		fmt.Fprintf(&text, "2026-11-22 03:00:%02d.%03d UTC,\"app\",\"shop\",%d,\"10.10.10.11:%d\",65a1.4d2,17,\"SELECT\",2026-11-22 02:00:00 UTC,3/%d,0,LOG,00000,"+
			"\"duration: %d.123 ms  statement: SELECT o.id, o.total, c.name FROM orders o JOIN customers c ON c.id = o.customer WHERE o.state = 'new' AND o.id > %d ORDER BY o.id LIMIT 100\","+
			",,,,,,,,\"psql\",\"client backend\",,-7263548123\n", i/1000%60, i%1000, 1000+i%40, 40000+i%40, i, i%1000, i*7919%1000003)
	}
	b.SetBytes(int64(text.Len()))
	var took time.Duration
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		n := spec.Node{Paths: spec.Paths{Log: dir}, Logs: spec.Logs{Data: filepath.Join(dir, "kept"), Keep: time.Hour, Size: 1 << 30}}
		write(b, n, "postgresql.csv", text.String())
		k := keeper(b, n)
		b.StartTimer()
		from := cpu(b)
		flush(b, k, noon)
		took += cpu(b) - from
		b.StopTimer()
		st, err := os.Stat(k.store.files[0])
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(text.Len())/float64(st.Size()), "times-smaller")
		b.StartTimer()
	}
	b.ReportMetric(float64(text.Len())*float64(b.N)/1e6/took.Seconds(), "MB/cpu-s")
}

// BenchmarkFind is what a core searches of kept csvlog in a second, for a text that is not there.
func BenchmarkFind(b *testing.B) {
	dir := b.TempDir()
	n := spec.Node{Paths: spec.Paths{Log: dir}, Logs: spec.Logs{Data: filepath.Join(dir, "kept"), Keep: time.Hour, Size: 1 << 30}}
	var text bytes.Buffer
	for i := 0; text.Len() < 32<<20; i++ {
		fmt.Fprintf(&text, "%s", line(noon.Add(time.Duration(i)*time.Millisecond), "LOG", "app@shop ", fmt.Sprintf("duration: %d.123 ms  statement: SELECT o.id FROM orders o WHERE o.id > %d", i%1000, i*7919%1000003)))
	}
	write(b, n, "postgresql.log", text.String())
	k := keeper(b, n)
	flush(b, k, noon)
	b.SetBytes(int64(text.Len()))
	from := cpu(b)
	for b.Loop() {
		if len(found(b, Place{Dir: filepath.Join(dir, "none"), Kept: n.Logs.Data}, Query{Filter: logbook.Filter{Grep: regexp.MustCompile("deadlock")}})) != 0 {
			b.Fatal("found")
		}
	}
	b.ReportMetric(float64(text.Len())*float64(b.N)/1e6/(cpu(b)-from).Seconds(), "MB/cpu-s")
}
