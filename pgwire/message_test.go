package pgwire

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMessages(t *testing.T) {
	whole := AppendMessage(nil, 'p', "pencil", "\x00")
	for _, tt := range []struct {
		name  string
		in    string
		limit int
		n     int
		bad   bool
	}{
		{"nothing", "", 100, 0, false},
		{"half a head", "p\x00\x00", 100, 0, false},
		{"all but a byte", string(whole[:len(whole)-1]), 100, 0, false},
		{"whole", string(whole), 100, len(whole), false},
		{"as long as it may be", string(whole), 7, len(whole), false},
		{"too long", string(whole), 6, 0, true},
		{"too long, by its head", "p\x00\x00\x00\x0b", 6, 0, true},
		{"2^31-1", "Q\x7f\xff\xff\xff", 1 << 30, 0, true},
		{"2^32-1", "Q\xff\xff\xff\xff", 1 << 30, 0, true},
		{"a length that does not count itself", "Q\x00\x00\x00\x03", 100, 0, true},
		{"empty", "X\x00\x00\x00\x04", 0, 5, false},
	} {
		m, n, err := ReadMessage([]byte(tt.in), tt.limit)
		if n != tt.n || errors.Is(err, ErrMessage) != tt.bad || n > 0 && (m.Type != tt.in[0] || len(m.Body) != n-5) {
			t.Errorf("%s: %v, %d, %v", tt.name, m, n, err)
		}
	}
}

func TestReportsSurvive(t *testing.T) {
	text := rapid.StringMatching(`[a-zé ]{0,10}`)
	rapid.Check(t, func(t *rapid.T) {
		want := Report{text.Draw(t, "severity"), text.Draw(t, "code"), text.Draw(t, "message"), text.Draw(t, "detail"), text.Draw(t, "hint")}
		b := AppendReport([]byte("before"), NoticeResponse, want)
		m, n, err := ReadMessage(b[6:], 1<<10)
		if err != nil || n != len(b)-6 || m.Type != 'N' {
			t.Fatalf("%q: %v", b, err)
		}
		if got := ReadReport(m.Body); got != want {
			t.Fatalf("%+v, want %+v", got, want)
		}
	})
	if r := ReadReport([]byte("SFEHLER\x00VERROR\x00Mnein\x00Wwo\x00\x00Cignored\x00")); r != (Report{Severity: "ERROR", Message: "nein"}) {
		t.Errorf("%+v", r)
	}
	if b := AppendReport(nil, ErrorResponse, Report{Message: "a\x00Cb"}); strings.Count(string(b[5:]), "\x00") != 2 {
		t.Errorf("a zero byte came through: %q", b)
	}
}

func TestRows(t *testing.T) {
	b := AppendColumns(nil, []Column{{"a", Text}, {"b", Int4}, {"c", Int8}})
	want := "T\x00\x00\x00\x3c\x00\x03" +
		"a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x19\xff\xff\xff\xff\xff\xff\x00\x00" +
		"b\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x17\x00\x04\xff\xff\xff\xff\x00\x00" +
		"c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x14\x00\x08\xff\xff\xff\xff\x00\x00"
	want = strings.Replace(want, "\x3c", string(rune(len(want)-1)), 1)
	if string(b) != want {
		t.Errorf("columns:\n%q, want\n%q", b, want)
	}
	if b := AppendRow(nil, []Value{{Text: "x"}, {Null: true}, {}}); string(b) != "D\x00\x00\x00\x13\x00\x03\x00\x00\x00\x01x\xff\xff\xff\xff\x00\x00\x00\x00" {
		t.Errorf("row: %q", b)
	}
}

func FuzzReadMessage(f *testing.F) {
	f.Add([]byte("E\x00\x00\x00\x09SERR\x00\x00"), 100)
	f.Fuzz(func(t *testing.T, in []byte, limit int) {
		m, n, err := ReadMessage(in, limit)
		if n > len(in) || n > 0 && (len(m.Body) > limit || err != nil) {
			t.Fatalf("%d of %d bytes, a body of %d where %d may be: %v", n, len(in), len(m.Body), limit, err)
		}
		r := ReadReport(m.Body)
		if again := ReadReport(AppendReport(nil, ErrorResponse, r)[5:]); again != r {
			t.Fatalf("%+v became %+v", r, again)
		}
	})
}

func FuzzReadFirst(f *testing.F) {
	f.Add(first(3<<16, "user\x00demo\x00\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, n, err := ReadFirst(in)
		if n > len(in) || n > StartupMax || n > 0 && (err != nil || len(p.Body) != n-8) {
			t.Fatalf("%d of %d bytes: %v", n, len(in), err)
		}
		var s KeyScan
		if _, ok := s.Feed(bytes.Clone(in)); ok && !s.Done {
			t.Fatal("a key was found, and the search goes on")
		}
	})
}
