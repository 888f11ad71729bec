package userlist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"howdah/pgwire"
	"howdah/secret"
)

func TestParse(t *testing.T) {
	users, err := Parse("; the users\n\n \"ann\" \"p\"\n\"b\"\"ob\"\t\"a \"\"b\"\"\" and more \"text\"\n\"empty\" \"\"\n\"c\":\"x y\"\n\"ann\" \"later\"")
	want := map[string]secret.Text{"ann": "later", `b"ob`: `a "b"`, "empty": "", "c": "x y"}
	if err != nil || !maps.Equal(users, want) {
		t.Errorf("Parse = %q, %v", keys(users), err)
	}
}

func keys(m map[string]secret.Text) []string { return slices.Sorted(maps.Keys(m)) }

func TestBrokenFiles(t *testing.T) {
	for _, tt := range []string{
		"ann \"p\"", "\"ann\"", "\"ann\" p", "\"ann", "\"ann\" \"p", "\"ann\"\n\"bob\" \"p\"", "# no comment here",
		"\"" + strings.Repeat("a", NameMax+1) + "\" \"p\"", "\"a\" \"" + strings.Repeat("a", SecretMax+1) + "\"", "\"a\x00\" \"p\"",
	} {
		users, err := Parse("\"first\" \"1\"\n" + tt + "\n\"last\" \"2\"\n")
		if err == nil || !strings.HasPrefix(err.Error(), "broken auth file: line 2: ") || !slices.Equal(keys(users), []string{"first"}) {
			t.Errorf("%.40q: %v, %v", tt, keys(users), err)
		}
		if err != nil && strings.Contains(err.Error(), "p\"") {
			t.Errorf("the error tells a secret: %v", err)
		}
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-z";\\ \té]{0,8}`)
		users := rapid.MapOf(text, rapid.Map(text, func(s string) secret.Text { return secret.Text(s) })).Draw(t, "users")
		file := Text(slices.Sorted(maps.Keys(users)), func(n string) secret.Text { return users[n] })
		got, err := Parse(file)
		if err != nil || !maps.Equal(got, users) {
			t.Fatalf("%q: %v, %v", file, keys(got), err)
		}
	})
}

func row(values ...any) pgwire.Message {
	var vs []pgwire.Value
	for _, v := range values {
		s, ok := v.(string)
		vs = append(vs, pgwire.Value{Text: s, Null: !ok})
	}
	return pgwire.Message{Type: 'D', Body: pgwire.AppendRow(nil, vs)[5:]}
}

func TestAnswersOfAuthQuery(t *testing.T) {
	begin := []pgwire.Message{{Type: '1'}, {Type: '2'}}
	end := []pgwire.Message{{Type: 'C', Body: []byte("SELECT 1\x00")}, {Type: 'Z', Body: []byte("I")}}
	failed := pgwire.Message{Type: 'E', Body: pgwire.AppendReport(nil, 'E', pgwire.Report{Code: "42P01", Message: "no table"})[5:]}
	for _, tt := range []struct {
		name   string
		middle []pgwire.Message
		end    []pgwire.Message
		found  bool
		secret secret.Text
		bad    bool
	}{
		{"a user", []pgwire.Message{row("ann", "md5x")}, end, true, "md5x", false},
		{"without a password", []pgwire.Message{row("ann", nil)}, end, true, "", false},
		{"nobody", nil, end, false, "", false},
		{"two", []pgwire.Message{row("ann", "a"), row("bob", "b")}, end, false, "", true},
		{"one column", []pgwire.Message{row("ann")}, end, false, "", true},
		{"three columns", []pgwire.Message{row("ann", "a", "b")}, end, false, "", true},
		{"no name", []pgwire.Message{row(nil, "a")}, end, false, "", true},
		{"a long name", []pgwire.Message{row(strings.Repeat("a", NameMax+1), "a")}, end, false, "", true},
		{"an error", []pgwire.Message{failed}, end[1:], false, "", true},
		{"a row and an error", []pgwire.Message{row("ann", "a"), failed}, end[1:], false, "", true},
		{"an open transaction", []pgwire.Message{row("ann", "a")}, []pgwire.Message{{Type: 'Z', Body: []byte("T")}}, false, "", true},
		{"half a row", []pgwire.Message{{Type: 'D', Body: []byte{0, 2, 0, 0, 0, 9, 'a'}}}, end, false, "", true},
		{"a row that goes on", []pgwire.Message{{Type: 'D', Body: append(row("ann", "a").Body, 0)}}, end, false, "", true},
		{"a negative length", []pgwire.Message{{Type: 'D', Body: []byte{0, 2, 0x80, 0, 0, 0, 0, 0, 0, 0}}}, end, false, "", true},
		{"a copy", []pgwire.Message{{Type: 'G'}}, nil, false, "", true},
	} {
		var l Lookup
		var done bool
		var err error
		for _, m := range slices.Concat(begin, tt.middle, tt.end) {
			done, err = l.Feed(m)
		}
		if !done || errors.Is(err, ErrAnswer) != tt.bad || l.Found != tt.found || l.Secret != tt.secret {
			t.Errorf("%s: found %v (secret right: %v), done %v, %v", tt.name, l.Found, l.Secret == tt.secret, done, err)
		}
	}
}

func TestTheQuestion(t *testing.T) {
	b := AppendQuery(nil, "SELECT $1", `o'br"ien`)
	var types []byte
	for len(b) > 0 {
		m, n, err := pgwire.ReadMessage(b, 1000)
		if err != nil || n == 0 {
			t.Fatal(err)
		}
		if m.Type == 'B' && !bytes.Contains(m.Body, append(binary.BigEndian.AppendUint32(nil, 8), `o'br"ien`...)) {
			t.Errorf("Bind = %q", m.Body)
		}
		types, b = append(types, m.Type), b[n:]
	}
	if string(types) != "PBES" {
		t.Errorf("messages %q", types)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("\"a\" \"b\"\n;\n\"\"\"\" \"\"")
	f.Fuzz(func(t *testing.T, text string) {
		users, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(Text(keys(users), func(n string) secret.Text { return users[n] }))
		if err != nil || !maps.Equal(users, again) {
			t.Fatalf("%q does not survive: %v", text, err)
		}
	})
}

func FuzzLookup(f *testing.F) {
	f.Add([]byte("D\x00\x00\x00\x10\x00\x02\x00\x00\x00\x01a\xff\xff\xff\xffZ\x00\x00\x00\x05I"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var l Lookup
		for len(in) > 0 {
			m, n, err := pgwire.ReadMessage(in, 1<<20)
			if n == 0 || err != nil {
				return
			}
			in = in[n:]
			if done, err := l.Feed(m); done {
				if err != nil && (l.Found || l.Secret != "") {
					t.Fatal("a bad answer leaves a secret")
				}
				return
			}
		}
	})
}
