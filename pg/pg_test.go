package pg

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
)

func TestLSN(t *testing.T) {
	for text, want := range map[string]LSN{
		"0/0": 0, "16/B374D848": 0x16_B374D848, "16/b374d848": 0x16_B374D848, "FFFFFFFF/FFFFFFFF": 1<<64 - 1, "0/3000148": 0x3000148,
	} {
		got, err := ParseLSN(text)
		if err != nil || got != want {
			t.Errorf("ParseLSN(%q) = %d, %v; want %d", text, got, err, want)
		}
		if again := got.String(); again != strings.ToUpper(text) {
			t.Errorf("%q prints as %q", text, again)
		}
	}
	for _, bad := range []string{"", "/", "0", "0/", "/0", "0/G", "-1/0", "0/-1", "100000000/0", "0/100000000", "0/0/0", " 0/0", "0x1/0"} {
		if got, err := ParseLSN(bad); err == nil {
			t.Errorf("ParseLSN(%q) = %s, want an error", bad, got)
		}
	}
	if got := LSN(5).Behind(8); got != 3 {
		t.Errorf("5 behind 8 is %d bytes, want 3", got)
	}
	if got := LSN(8).Behind(5); got != 0 {
		t.Errorf("8 behind 5 is %d bytes, want 0", got)
	}
}

func FuzzParseLSN(f *testing.F) {
	for _, s := range []string{"0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF", "", "/", "0/00000001"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ParseLSN(text)
		if err != nil {
			return
		}
		if again, err := ParseLSN(l.String()); err != nil || again != l {
			t.Errorf("%q reads as %s, which reads as %s, %v", text, l, again, err)
		}
	})
}

func TestTimeline(t *testing.T) {
	if got := Timeline(26).HistoryFile(); got != "0000001A.history" {
		t.Errorf("history file of 26 = %s", got)
	}
	// As pg_walfile_name says on timeline 1.
	for _, tt := range []struct {
		lsn  string
		size uint64
		want string
	}{
		{"0/0", 16 << 20, "000000010000000000000000"},
		{"0/3000148", 16 << 20, "000000010000000000000003"},
		{"16/B374D848", 16 << 20, "0000000100000016000000B3"},
		{"16/FFFFFFFF", 16 << 20, "0000000100000016000000FF"},
		{"16/B374D848", 1 << 20, "000000010000001600000B37"},
		{"16/B374D848", 1 << 30, "000000010000001600000002"},
	} {
		lsn, err := ParseLSN(tt.lsn)
		if err != nil {
			t.Fatal(err)
		}
		if got := Timeline(1).Segment(lsn, tt.size); got != tt.want {
			t.Errorf("segment of %s at %d bytes = %s, want %s", tt.lsn, tt.size, got, tt.want)
		}
	}
}

func TestHistory(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       History
	}{
		{"empty, as a placeholder is", "", nil},
		{"one switch", "1\t0/3000148\tno recovery target specified\n", History{{1, 0x3000148, "no recovery target specified"}}},
		{"an empty line between, as PostgreSQL writes", "1\t0/3000148\tno recovery target specified\n\n2\t0/5000000\tbefore 2026-11-20 12:00:00+00\n", History{{1, 0x3000148, "no recovery target specified"}, {2, 0x5000000, "before 2026-11-20 12:00:00+00"}}},
		{"comments, blanks, a reason with a tab", "# by hand\n  \n 3\t16/B374D848\ta\tb\r\n", History{{3, 0x16_B374D848, "a\tb"}}},
		{"no reason, spaces", "1 0/3000148", History{{1, 0x3000148, ""}}},
	} {
		got, err := ParseHistory(tt.text)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %v, %v; want %v", tt.name, got, err, tt.want)
		}
	}
	for _, bad := range []string{"1", "x\t0/0", "1\tnowhere", "0\t0/1\t", "2\t0/1\t\n1\t0/2\t", "1\t0/1\t\n1\t0/2\t", "4294967296\t0/1"} {
		if got, err := ParseHistory(bad); err == nil {
			t.Errorf("ParseHistory(%q) = %v, want an error", bad, got)
		}
	}
	h := History{{1, 10, ""}, {3, 30, ""}}
	if at, ok := h.Left(3); !ok || at != 30 {
		t.Errorf("timeline 3 was left at %s, %t", at, ok)
	}
	if _, ok := h.Left(2); ok {
		t.Error("timeline 2 is no ancestor, but was left")
	}
}

func FuzzParseHistory(f *testing.F) {
	for _, s := range []string{"", "#\n", "1\t0/3000148\tno recovery target specified\n", "1 0/0\n2 0/1 x", "\t\t\t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := ParseHistory(text)
		if err != nil {
			return
		}
		var b strings.Builder
		for i, s := range h {
			if i > 0 && s.Timeline <= h[i-1].Timeline {
				t.Errorf("%q: timelines do not increase: %v", text, h)
			}
			fmt.Fprintf(&b, "%s\t%s\t%s\n", s.Timeline, s.At, s.Reason)
		}
		again, err := ParseHistory(b.String())
		if err != nil || len(again) != len(h) {
			t.Errorf("%q reads as %v, which reads as %v, %v", text, h, again, err)
		}
	})
}

func TestSystemID(t *testing.T) {
	if id, err := ParseSystemID("7401234567890123456"); err != nil || id.String() != "7401234567890123456" {
		t.Errorf("system identifier = %s, %v", id, err)
	}
	for _, bad := range []string{"", "123456789", "74012345678901234567890", "-7401234567890123456", "740123456789012345x"} {
		if id, err := ParseSystemID(bad); !errors.Is(err, ErrSystemID) {
			t.Errorf("ParseSystemID(%q) = %s, %v", bad, id, err)
		}
	}
}

// libpq reads a connection string as conninfo_parse in fe-connect.c does: the
// tests read ours back by the same rules.
func libpq(text string) (map[string]string, error) {
	space := func(c byte) bool { return strings.IndexByte(" \t\n\v\f\r", c) >= 0 }
	settings := map[string]string{}
	for i := 0; ; {
		for i < len(text) && space(text[i]) {
			i++
		}
		if i == len(text) {
			return settings, nil
		}
		from := i
		for i < len(text) && text[i] != '=' && !space(text[i]) {
			i++
		}
		name := text[from:i]
		for i < len(text) && space(text[i]) {
			i++
		}
		if i == len(text) || text[i] != '=' {
			return nil, fmt.Errorf("missing \"=\" after %q", name)
		}
		for i++; i < len(text) && space(text[i]); {
			i++
		}
		quoted := i < len(text) && text[i] == '\''
		if quoted {
			i++
		}
		var value []byte
		for ; ; i++ {
			if i == len(text) {
				if quoted {
					return nil, errors.New("unterminated quoted string")
				}
				break
			}
			if c := text[i]; quoted && c == '\'' || !quoted && space(c) {
				i++
				break
			} else if c == '\\' {
				if i++; i == len(text) {
					break
				}
			}
			value = append(value, text[i])
		}
		settings[name] = string(value)
	}
}

func TestDSN(t *testing.T) {
	d := DSN{{"host", "10.10.10.11"}, {"port", "5432"}, {"password", ""}, {"application_name", "pg-1"}, {"options", `-c a='b c' \d`}}
	const want = `host=10.10.10.11 port=5432 application_name=pg-1 options='-c a=\'b c\' \\d'`
	if got := d.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := (DSN{}).String(); got != "" {
		t.Errorf("nothing prints as %q", got)
	}
}

func FuzzDSN(f *testing.F) {
	for _, s := range []string{"", "simple", " ", "'", `\`, `\'`, "a b", "a\tb\r\n\v\f", "=", "x=y", "'quoted'", "ü\x00"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, user, password string) {
		want := map[string]string{"port": "5432"}
		for name, v := range map[string]string{"user": user, "password": password} {
			if v != "" {
				want[name] = v
			}
		}
		text := DSN{{"user", user}, {"port", "5432"}, {"password", password}}.String()
		got, err := libpq(text)
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%q reads as %q, %v; want %q", text, got, err, want)
		}
	})
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{"a": `"a"`, `A "b"`: `"A ""b"""`, "": `""`} {
		if got := QuoteIdent(in); got != want {
			t.Errorf("QuoteIdent(%q) = %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]string{"a": `'a'`, "it's": `'it''s'`, `a\b'`: `E'a\\b'''`, "": `''`} {
		if got := QuoteLiteral(in); got != want {
			t.Errorf("QuoteLiteral(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		name              string
		s                 Status
		primary, mayWrite bool
	}{
		{"gone", Status{Process: ProcessNone, Answers: true}, false, false},
		{"primary", Status{Process: ProcessRunning, Answers: true}, true, true},
		{"standby", Status{Process: ProcessRunning, Answers: true, Recovering: true, Standby: true}, false, false},
		{"silent without standby.signal: may write", Status{Process: ProcessRunning}, false, true},
		{"silent with standby.signal", Status{Process: ProcessRunning, Standby: true}, false, false},
		{"promoted, standby.signal not yet removed", Status{Process: ProcessRunning, Answers: true, Standby: true}, true, true},
		{"only children remain", Status{Process: ProcessRemains}, false, true},
		{"frozen", Status{Process: ProcessFrozen}, false, true},
	} {
		if got := tt.s.Primary(); got != tt.primary {
			t.Errorf("%s: primary = %t", tt.name, got)
		}
		if got := tt.s.MayWrite(); got != tt.mayWrite {
			t.Errorf("%s: may write = %t", tt.name, got)
		}
	}
	for state, want := range map[ControlState][2]bool{ // clean, was primary
		ControlShutDown: {true, true}, ControlShutDownInRecovery: {true, false}, ControlInProduction: {false, true},
		ControlShuttingDown: {false, true}, ControlInCrashRecovery: {false, true}, ControlInArchiveRecovery: {false, false}, ControlStartingUp: {false, false},
	} {
		c := Control{State: state}
		if got := [2]bool{c.Clean(), c.WasPrimary()}; got != want {
			t.Errorf("%s: clean, was primary = %v, want %v", state, got, want)
		}
	}
	if got := (Upstream{Host: "::1", Port: 5432}).Addr(); got != "[::1]:5432" {
		t.Errorf("address = %s", got)
	}
	if got := (Upstream{Name: "nobody"}).Addr(); got != "" {
		t.Errorf("address of nobody = %s", got)
	}
}

func TestParseSegment(t *testing.T) {
	for _, size := range []uint64{1 << 20, 16 << 20, 1 << 30} {
		at := LSN(0x3_4000_0000)
		if tl, lsn, err := ParseSegment(Timeline(7).Segment(at+100, size), size); err != nil || tl != 7 || lsn != at {
			t.Errorf("of %d bytes: timeline %s, %s, %v; want 7, %s", size, tl, lsn, err, at)
		}
	}
	for _, name := range []string{"", "00000002.history", "00000001000000000000000G", "0000000100000000000000012"} {
		if _, _, err := ParseSegment(name, 16<<20); err == nil {
			t.Errorf("%q is one", name)
		}
	}
}
