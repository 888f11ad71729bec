package quorum

import (
	"reflect"
	"testing"
)

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		text  string
		want  Names
		print string
	}{
		{"", Names{}, ""},
		{"a", Names{First: true, Num: 1, List: []string{"a"}}, "a"},
		{`"pg-2"`, Names{First: true, Num: 1, List: []string{"pg-2"}}, `"pg-2"`},
		{"a, b", Names{First: true, Num: 1, List: []string{"a", "b"}}, "1 (a,b)"},
		{`2 ("pg-2","pg-3")`, Names{First: true, Num: 2, List: []string{"pg-2", "pg-3"}}, `2 ("pg-2","pg-3")`},
		{"FIRST 2 (b, a ,c)", Names{First: true, Num: 2, List: []string{"b", "a", "c"}}, "2 (b,a,c)"},
		{"aNy\n1\t( b,c )", Names{Num: 1, List: []string{"b", "c"}}, "ANY 1 (b,c)"},
		{"ANY 1 (*)", Names{Num: 1, List: []string{"*"}}, "ANY 1 (*)"},
		{`"*"`, Names{First: true, Num: 1, List: []string{"*"}}, "*"}, // strcmp(standby_name, "*") does not see the quotes
		{"*,a", Names{First: true, Num: 1, List: []string{"*", "a"}}, "1 (*,a)"},
		{"2", Names{First: true, Num: 1, List: []string{"2"}}, `"2"`},
		{"1, 2", Names{First: true, Num: 1, List: []string{"1", "2"}}, `1 ("1","2")`},
		{"ANY 007 (a,a)", Names{Num: 7, List: []string{"a", "a"}}, "ANY 7 (a,a)"},
		{`any1, first_, _x$9, "any", "FIRST"`, Names{First: true, Num: 1, List: []string{"any1", "first_", "_x$9", "any", "FIRST"}}, `1 (any1,first_,_x$9,"any","FIRST")`},
		{`"a""b", "", "x, y"`, Names{First: true, Num: 1, List: []string{`a"b`, "", "x, y"}}, `1 ("a""b","","x, y")`},
		{"zürich", Names{First: true, Num: 1, List: []string{"zürich"}}, "zürich"},
		{"2(a)", Names{First: true, Num: 2, List: []string{"a"}}, "2 (a)"},
	} {
		got, err := ParseNames(tt.text)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("ParseNames(%q) = %+v, %v; want %+v", tt.text, got, err, tt.want)
		}
		if p := tt.want.String(); p != tt.print {
			t.Errorf("%+v prints as %s, want %s", tt.want, p, tt.print)
		}
	}
	for _, bad := range []string{
		" ", ",", "a,", ",a", "a b", "pg-2", "any", "any, b", "first", "any 1", "any (a)", "any 1 a", "any 1 ()", "any 0 (a)",
		"0 (a)", "99999999999 (a)", "2147483648 (a)", "1 (a", "1 a)", "(a)", "1 (a) b", "1 (a,)", `"a`, "1 2", "1a", "a.b", "any any 1 (a)",
		"any a (b)", "1 (any)", "any 1 (a) )", "-1 (a)", "a;b", "1 ((a))",
	} {
		if got, err := ParseNames(bad); err == nil {
			t.Errorf("ParseNames(%q) = %+v, want an error", bad, got)
		}
	}
}

func FuzzParseNames(f *testing.F) {
	for _, s := range []string{"", "a", "a,b", "2 (a,b)", `ANY 1 ("pg-2",*)`, "first 3 (1,2)", `"a""b"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseNames(text)
		if err != nil {
			return
		}
		if again, err := ParseNames(n.String()); err != nil || !reflect.DeepEqual(again, n) {
			t.Errorf("%q reads as %+v, which prints as %s and reads as %+v, %v", text, n, n, again, err)
		}
	})
}
