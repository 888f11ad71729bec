package names

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"howdah/cluster"
	"howdah/spec"
)

var zone = spec.Zone{Cluster: "pg-test", Suffix: ".pigsty", Members: []spec.Named{{Name: "pg-test-1", Address: "10.0.0.1"}, {Name: "pg-test-2", Address: "10.0.0.2"}}}

// view is the cluster while leader leads.
func view(leader string) View {
	v := View{Zone: zone, Known: true}
	v.Picture.Leader = leader
	for _, m := range zone.Members {
		v.Picture.Members = append(v.Picture.Members, cluster.PictureMember{Name: m.Name, Host: m.Address, Running: true})
	}
	return v
}

// A name follows its leader, and stays where it was while there is none.
func TestLinesFollowTheLeader(t *testing.T) {
	lines := Make([]View{view("pg-test-1")}, nil).Lines(nil)
	want := strings.Split("10.0.0.1 pg-test-1|10.0.0.1 pg-test-1.pigsty|10.0.0.2 pg-test-2|10.0.0.2 pg-test-2.pigsty|10.0.0.2 pg-test-offline|10.0.0.2 pg-test-offline.pigsty|"+
		"10.0.0.1 pg-test-primary|10.0.0.1 pg-test-primary.pigsty|10.0.0.2 pg-test-replica|10.0.0.2 pg-test-replica.pigsty|10.0.0.1 pg-test.pigsty", "|")
	if !slices.Equal(lines, want) {
		t.Errorf("got %q\nwant %q", lines, want)
	}
	if got := Known(lines, []spec.Zone{zone}); !slices.Equal(got, lines) {
		t.Errorf("of its own names only %q are known", got)
	}
	nobody := view("")
	nobody.Picture.Members = nil
	if got := Make([]View{nobody}, nil).Lines(lines); !slices.Equal(got, lines) {
		t.Errorf("while nobody leads: %q", got)
	}
	if got := Make([]View{view("pg-test-2")}, nil).Lines(lines); !slices.Contains(got, "10.0.0.2 pg-test.pigsty") || slices.Contains(got, "10.0.0.1 pg-test.pigsty") {
		t.Errorf("after a failover: %q", got)
	}
}

func TestOnlyNamesOfTheZonesAreKnown(t *testing.T) {
	for line, want := range map[string]bool{
		"10.0.0.3 pg-test-3": true, "10.0.0.3 pg-test-3.pigsty": true, "fd00::3 pg-test-3": true, "10.0.0.3 pg-test": true,
		"10.0.0.3 example.org": false, "10.0.0.3 pg-test-3.example.org": false, "10.0.0.3 pg-tester": false, "10.0.0.3": false,
		"nowhere pg-test-3": false, "10.0.0.3 pg-test-3 example.org": false, "10.0.0.3 pg-test-3\r": false, "": false,
	} {
		if got := len(Known([]string{line}, []spec.Zone{zone})) == 1; got != want {
			t.Errorf("%q is known: %t", line, got)
		}
	}
}

// What is not between the marks stays as it is, to the byte.
func TestMerge(t *testing.T) {
	block := func(lines string) string { return begin + "\n" + lines + end + "\n" }
	for _, tt := range []struct {
		name, text string
		lines      []string
		want       string
		err        error
	}{
		{"an empty file", "", []string{"1.1.1.1 a"}, block("1.1.1.1 a\n"), nil},
		{"at the end", "127.0.0.1 localhost\n", []string{"1.1.1.1 a"}, "127.0.0.1 localhost\n" + block("1.1.1.1 a\n"), nil},
		{"no end of line", "127.0.0.1 localhost", []string{"1.1.1.1 a"}, "127.0.0.1 localhost\n" + block("1.1.1.1 a\n"), nil},
		{"in its place", "x\r\n" + block("1.1.1.1 a\n") + "\ty  \nz", []string{"2.2.2.2 a", "3.3.3.3 b"}, "x\r\n" + block("2.2.2.2 a\n3.3.3.3 b\n") + "\ty  \nz", nil},
		{"and off again", "x\n" + block("1.1.1.1 a\n") + "y\n", nil, "x\ny\n", nil},
		{"never there", "x\n", nil, "x\n", nil},
		{"no end", "x\n" + begin + "\n1.1.1.1 a\n", []string{"2.2.2.2 a"}, "", ErrMarks},
		{"no beginning", "x\n" + end + "\n", []string{"2.2.2.2 a"}, "", ErrMarks},
		{"two of them", block("") + block(""), []string{"2.2.2.2 a"}, "", ErrMarks},
	} {
		got, err := Merge(tt.text, tt.lines)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %q, %v; want %q, %v", tt.name, got, err, tt.want, tt.err)
		}
	}
}
