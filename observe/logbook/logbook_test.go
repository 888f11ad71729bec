package logbook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// parse reads text as one file, cut into pieces of that size.
func parse(p Parser, text string, piece int) (all []Record) {
	tell := func(r Record) { all = append(all, r) }
	for b := []byte(text); len(b) > 0; {
		n := min(piece, len(b))
		p.Feed(slices.Clone(b[:n]), tell)
		b = b[n:]
	}
	p.Finish(tell)
	return all
}

func lines(all []Record) string {
	var b strings.Builder
	for _, r := range all {
		b.WriteString(r.String() + "\n")
	}
	return b.String()
}

// What each program writes becomes one record for each thing that was said.
func TestParse(t *testing.T) {
	for _, tt := range []struct{ name, job, text, want string }{
		{"PostgreSQL's stderr, with parts and lines that go on", Postgres, `2026-11-22 03:00:00.123 UTC [71] LOG:  starting PostgreSQL 15
2026-11-22 03:00:01.000 UTC [80] app@shop ERROR:  syntax error at or near "x"
	and a second line
2026-11-22 03:00:01.000 UTC [80] app@shop DETAIL:  it is
	so
2026-11-22 03:00:01.000 UTC [80] app@shop STATEMENT:  SELECT
	x
	FROM y
sh: 1: archive: not found
2026-11-22 03:00:02.500 P00  ERROR: [082]: unable to push
                                     HINT: wait
2026-11-22 03:00:03 UTC [81] [unknown]@[unknown] FATAL:  no pg_hba.conf entry
`, `03:00:00.123 m postgres info "starting PostgreSQL 15" [{pid 71} {lv LOG}]
03:00:01.000 m postgres err "syntax error at or near \"x\"\nand a second line" [{user app} {db shop} {pid 80} {lv ERROR} {detail it is
so} {q SELECT
x
FROM y}]
03:00:01.000 m postgres info "sh: 1: archive: not found" []
03:00:02.500 m pgbackrest err "[082]: unable to push\n                                     HINT: wait" [{process P00}]
03:00:03.000 m postgres crit "no pg_hba.conf entry" [{user [unknown]} {db [unknown]} {pid 81} {lv FATAL}]
`},
		{"csvlog with quotes and ends of lines in values", Postgres, `2026-11-22 03:00:01.000 UTC,"app","shop",80,"10.0.0.1:5000",65a.50,3,"SELECT",2026-11-22 02:00:00 UTC,3/7,0,ERROR,42601,"a ""quoted"" word
2026-11-22 03:00:09.000 UTC,""is no row""",,,,,,"SELECT 1,
2",8,"scan.l:1","psql","client backend",,-77
2026-11-22 03:00:02.000 UTC,,,71,,65a.47,1,,2026-11-22 02:00:00 UTC,,0,LOG,00000,"duration: 12.5 ms",,,,,,,,,"","checkpointer",,0
2026-11-22 03:00:03.000 UTC,too,short
`, `03:00:01.000 m postgres err "a \"quoted\" word\n2026-11-22 03:00:09.000 UTC,\"is no row\"" [{user app} {db shop} {pid 80} {addr 10.0.0.1:5000} {sid 65a.50} {sln 3} {cmd SELECT} {stime 2026-11-22 02:00:00 UTC} {vxid 3/7} {txid 0} {lv ERROR} {code 42601} {q SELECT 1,
2} {qp 8} {loc scan.l:1} {app psql} {btype client backend} {query -77}]
03:00:02.000 m postgres info "duration: 12.5 ms" [{pid 71} {sid 65a.47} {sln 1} {stime 2026-11-22 02:00:00 UTC} {txid 0} {lv LOG} {code 00000} {btype checkpointer} {query 0}]
`},
		{"jsonlog, by the same names", Postgres, `{"timestamp":"2026-11-22 03:00:01.000 UTC","user":"app","dbname":"shop","pid":80,"remote_host":"10.0.0.1","remote_port":5000,"error_severity":"ERROR","state_code":"42601","message":"bad","statement":"SELECT\nx","func_name":"scan","file_name":"scan.l","file_line_num":1,"query_id":-77}
`, `03:00:01.000 m postgres err "bad" [{user app} {db shop} {pid 80} {addr 10.0.0.1:5000} {lv ERROR} {code 42601} {q SELECT
x} {loc scan, scan.l:1} {query -77}]
`},
		{"our roles, and what their end leaves", "agent", `time=2026-11-22T03:00:00.5Z level=WARN msg="action not done" cluster=c member=m action="promote demo" error="no \"key\""
SCHED 0ms: gomaxprocs=1
panic: at the disco

goroutine 1 [running]:
main.main()
	/src/main.go:1
time=2026-11-22T03:00:01.000+01:00 level=INFO+2 msg=again
{"time":"2026-11-22T03:00:02Z","level":"ERROR","msg":"lost","error":"gone","took":5}
`, `03:00:00.500 m agent warning "action not done" [{action promote demo} {error no "key"}]
03:00:00.500 m agent debug "SCHED 0ms: gomaxprocs=1" []
03:00:00.500 m agent crit "panic: at the disco\n\ngoroutine 1 [running]:\nmain.main()\n/src/main.go:1" []
02:00:01.000 m agent info "again" []
03:00:02.000 m agent err "lost" [{error gone} {took 5}]
`},
		{"an end that is none", Postgres, `2026-11-22 03:00:01.000 UTC [1] LOG:  written in par`, `03:00:01.000 m postgres info "written in par" [{pid 1} {lv LOG}]
`},
		{"nothing", Postgres, "", ""},
	} {
		for _, piece := range []int{1 << 20, 7, 1} {
			p := Parser{Source: Source{Cluster: "c", Member: "m", Job: tt.job}}
			if got := lines(parse(p, tt.text, piece)); got != tt.want {
				t.Errorf("%s, in pieces of %d:\ngot\n%s\nwant\n%s", tt.name, piece, got, tt.want)
			}
		}
	}
}

// Begun in the middle, nothing is told of the record that was cut.
func TestMiddle(t *testing.T) {
	text := "dle of a line\n\tand more\n2026-11-22 03:00:01.000 UTC [80] DETAIL:  of what is gone\n\tgoes on\n2026-11-22 03:00:02.000 UTC [80] LOG:  here\n"
	want := `03:00:02.000  postgres info "here" [{pid 80} {lv LOG}]` + "\n"
	if got := lines(parse(Parser{Source: Source{Job: Postgres}, Middle: true}, text, 5)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What goes on is told when nothing more comes, and not before.
func TestEnd(t *testing.T) {
	var got []Record
	tell := func(r Record) { got = append(got, r) }
	p := Parser{Source: Source{Job: Postgres}}
	p.Feed([]byte("2026-11-22 03:00:01.000 UTC [1] LOG:  a\n2026-11-22 03:00:02.000 UTC [1] LOG:  b\n2026-11-22 03:00:03"), tell)
	if len(got) != 1 {
		t.Fatalf("%v", got)
	}
	p.End(tell)
	p.End(tell)
	p.Feed([]byte(".000 UTC [1] LOG:  c\n"), tell)
	if p.Finish(tell); len(got) != 3 || got[2].Message != "c" {
		t.Errorf("%v", got)
	}
}

// A time says its zone; one that we are not told about is taken as UTC.
func TestStamp(t *testing.T) {
	zone := time.FixedZone("CET", 3600)
	for _, tt := range []struct{ text, want, rest string }{
		{"2026-11-22 03:00:00.123 UTC [7] x", "03:00:00.123", " [7] x"},
		{"2026-11-22 03:00:00.123456 CET,x", "02:00:00.123456", ",x"},
		{"2026-11-22 03:00:00 x", "03:00:00", " x"},
		{"2026-11-22 03:00:00.1 P00   INFO: x", "03:00:00.1", " P00   INFO: x"},
		{"2026-11-22 03:00:00", "03:00:00", ""},
		{"2026-13-22 03:00:00", "", "2026-13-22 03:00:00"},
		{"2026-11-2203:00:00 x", "", "2026-11-2203:00:00 x"},
		{"x", "", "x"},
	} {
		at, rest, ok := stamp(tt.text, zone)
		got := ""
		if ok {
			got = at.UTC().Format("15:04:05.999999")
		}
		if got != tt.want || rest != tt.rest {
			t.Errorf("%q: %q and %q, want %q and %q", tt.text, got, rest, tt.want, tt.rest)
		}
	}
}

// Passwords do not get out; what only talks of them does.
func TestMask(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"ALTER ROLE a PASSWORD 'se''cret' VALID", "ALTER ROLE a PASSWORD '***' VALID"},
		{`create user a password E'se\'cret'; select 'x'`, "create user a password '***'; select 'x'"},
		{"ALTER ROLE a PASSWORD 'cut off in the mid", "ALTER ROLE a PASSWORD '***'"},
		{"ALTER ROLE a PASSWORD $x$secret$x$;", "ALTER ROLE a PASSWORD '***';"},
		{"host=a password=secret user=b", "host=a password=*** user=b"},
		{"host=a password='sec ret' user=b", "host=a password='***' user=b"},
		{`{"password": "se\"cret", "a": 1}`, `{"password": "***", "a": 1}`},
		{"postgres://app:secret@10.0.0.1/shop", "postgres://app:***@10.0.0.1/shop"},
		{"PASSWORD 'SCRAM-SHA-256$4096:salt$stored:server'", "PASSWORD '***'"},
		{"rolpassword is SCRAM-SHA-256$4096:salt$stored:server", "rolpassword is SCRAM-SHA-256$***"},
		{"it is md5" + strings.Repeat("0a", 16), "it is md5***"},
		{`password authentication failed for user "app"`, `password authentication failed for user "app"`},
		{"see https://example.org/a@b", "see https://example.org/a@b"},
	} {
		if got := Mask(tt.text); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.text, got, tt.want)
		}
		if got := Mask(Mask(tt.text)); got != tt.want {
			t.Errorf("%q masked twice: %q", tt.text, got)
		}
	}
	r := parse(Parser{Source: Source{Job: Postgres}}, "2026-11-22 03:00:01.000 UTC [1] ERROR:  no\n2026-11-22 03:00:01.000 UTC [1] STATEMENT:  ALTER USER a PASSWORD 'secret'\n", 100)
	if got := lines(r); strings.Contains(got, "secret") || !strings.Contains(got, "***") {
		t.Error(got)
	}
}

func TestFilter(t *testing.T) {
	at := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	r := Record{
		Source: Source{Member: "a", Job: Postgres}, Time: at, Level: Warning, Message: "first",
		Fields: []Field{{"user", "app"}, {"db", "shop"}, {"lv", "WARNING"}, {"q", "SELECT secret_table"}},
	}
	for _, tt := range []struct {
		name string
		f    Filter
		want bool
	}{
		{"all", Filter{}, true},
		{"as bad", Filter{Level: Warning}, true},
		{"worse", Filter{Level: Err}, false},
		{"since", Filter{Since: at}, true},
		{"too old", Filter{Since: at.Add(1)}, false},
		{"until", Filter{Until: at}, true},
		{"too new", Filter{Until: at.Add(-1)}, false},
		{"member", Filter{Members: []string{"b", "a"}}, true},
		{"other member", Filter{Members: []string{"b"}}, false},
		{"other job", Filter{Jobs: []string{"agent"}}, false},
		{"user and database", Filter{User: "app", Database: "shop"}, true},
		{"other user", Filter{User: "ap"}, false},
		{"other database", Filter{Database: "sho"}, false},
		{"its statement", Filter{Grep: regexp.MustCompile("secret_[a-z]+")}, true},
		{"not there", Filter{Grep: regexp.MustCompile("^SELECT")}, false},
	} {
		if got := tt.f.Wants(r); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestJSON(t *testing.T) {
	all := parse(Parser{Source: Source{Cluster: "c", Member: "m", IP: "10.0.0.1", Job: Postgres}},
		"2026-11-22 03:00:01.000 UTC [1] app@shop LOG:  duration: 12.5 ms  statement: SELECT 1\n2026-11-22 03:00:01.000 UTC [1] app@shop DETAIL:  x\n", 100)
	all = append(all, parse(Parser{Source: Source{Job: "jobs"}}, "time=2026-11-22T03:00:02Z level=INFO msg=said job=backup level_=1\n", 100)...)
	want := []string{
		`{"_time":"2026-11-22T03:00:01.000Z","cls":"c","db":"shop","detail":"x","duration":12.5,"ins":"m","ip":"10.0.0.1","job":"postgres","level":"info","lv":"LOG","message":"duration: 12.5 ms  statement: SELECT 1,x","msg":"duration: 12.5 ms  statement: SELECT 1","pid":"1","user":"app"}`,
		`{"_time":"2026-11-22T03:00:02.000Z","job":"jobs","job_":"backup","level":"info","level_":"1","message":"said"}`,
	}
	for i, r := range all {
		if got, err := json.Marshal(r); err != nil || string(got) != want[i] {
			t.Errorf("got  %s %v\nwant %s", got, err, want[i])
		}
	}
}

// row is a row of csvlog as PostgreSQL writes it (csvlog.c).
func row(at string, values []string) string {
	out := []string{at}
	for _, v := range values {
		if v != "" { // it quotes nearly everything
			v = `"` + strings.ReplaceAll(v, `"`, `""`) + `"`
		}
		out = append(out, v)
	}
	return strings.Join(out, ",") + "\n"
}

// Whatever stands in the values, rows come back as they were, in whatever pieces.
func TestRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		var want []string
		for i := range rapid.IntRange(1, 4).Draw(t, "rows") {
			values := make([]string, len(columns)-rapid.IntRange(0, 3).Draw(t, "older"))
			for j := range values {
				values[j] = rapid.StringOfN(rapid.RuneFrom([]rune("ab\"\n, \t'2-:")), 0, 12, -1).Draw(t, "value")
			}
			at := fmt.Sprintf("2026-11-22 03:00:%02d.000 UTC", i)
			text.WriteString(row(at, values))
			w := ""
			for j, v := range values {
				if v != "" {
					w += columns[j] + "=" + v + "\x00"
				}
			}
			want = append(want, w)
		}
		all := parse(Parser{}, text.String(), rapid.IntRange(1, 200).Draw(t, "piece"))
		if len(all) != len(want) {
			t.Fatalf("%d records of %d rows: %q", len(all), len(want), text.String())
		}
		for i, r := range all {
			got := ""
			for _, name := range columns {
				v := r.Get(name)
				if name == "msg" {
					v = r.Message
				}
				if v != "" {
					got += name + "=" + v + "\x00"
				}
			}
			if got != want[i] {
				t.Fatalf("got %q, want %q", got, want[i])
			}
		}
	})
}

// The same bytes are the same records in whatever pieces they come, and none of
// them can be lost by its beginning.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"2026-11-22 03:00:00.123 UTC [71] a@b LOG:  x\n\ty\n", "2026-11-22 03:00:01.000 UTC,\"a\",\"b\n\",,,,\n", "{\"msg\":1}\n",
		"time=2026-11-22T03:00:00Z level=INFO msg=\"a b\" c=\"d\n", "2026-11-22 03:00:02.500 P00  ERROR: [082]: x\n", "\t\n \npanic: x\ny\n",
		"2026-11-22 03:00:00.123 UTC [71] STATEMENT:  password 'x'\n",
	} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		piece = 1 + (piece&0xff+0x100)&0xff
		p := Parser{Source: Source{Job: Postgres}}
		whole, pieces := lines(parse(p, string(b), len(b)+1)), lines(parse(p, string(b), piece))
		if whole != pieces {
			t.Errorf("whole:\n%s\nin pieces of %d:\n%s", whole, piece, pieces)
		}
		// Whoever goes on where a record ended hears the others. (Of lines that are
		// nobody's format only a parser that heard them all knows which are one.)
		all := parse(p, string(b), len(b)+1)
		var ends []int64
		q := p
		q.Feed(b, func(Record) { ends = append(ends, q.Told()) })
		q.Finish(func(Record) { ends = append(ends, q.Told()) })
		if len(ends) != len(all) || !slices.IsSorted(ends) || q.Told() != int64(len(b)) {
			t.Fatalf("%d records end at %v of %d", len(all), ends, len(b))
		}
		for i, end := range ends {
			rest := parse(p, string(b[end:]), piece)
			if plain := !slices.ContainsFunc(all[i+1:], func(r Record) bool { return r.Time.IsZero() || len(r.Fields) == 0 }); plain && lines(rest) != lines(all[i+1:]) {
				t.Errorf("after %d:\n%s\nwant:\n%s", end, lines(rest), lines(all[i+1:]))
			}
		}
		for _, r := range all {
			if _, err := json.Marshal(r); err != nil {
				t.Error(err)
			}
			r.Text()
		}
	})
}

// BenchmarkCSV is what a core reads of csvlog in a second.
func BenchmarkCSV(b *testing.B) {
	var text bytes.Buffer
	for i := 0; text.Len() < 8<<20; i++ {
		values := make([]string, len(columns))
		copy(values, []string{"app", "shop", "1234", "10.10.10.11:40012", "65a1.4d2", "17", "SELECT", "2026-11-22 02:00:00 UTC", "3/77", "0", "LOG", "00000"})
		values[12] = fmt.Sprintf("duration: %d.123 ms  statement: SELECT o.id, o.total, c.name FROM orders o JOIN customers c ON c.id = o.customer WHERE o.state = 'new' AND o.id > %d ORDER BY o.id LIMIT 100", i%1000, i)
		values[21], values[22], values[24] = "psql", "client backend", "-7263548123"
		text.WriteString(row("2026-11-22 03:00:00.123 UTC", values))
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		n := 0
		p := Parser{Source: Source{Job: Postgres}}
		for rest := text.Bytes(); len(rest) > 0; {
			piece := min(len(rest), 256<<10)
			p.Feed(rest[:piece], func(Record) { n++ })
			rest = rest[piece:]
		}
		if n == 0 {
			b.Fatal("no records")
		}
	}
}
