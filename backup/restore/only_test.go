package restore

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"howdah/backup/repo"
)

// Which databases are left out, by what is asked for; rules and errors are those of
// the real one, which the tests of interoperation compare.
func TestChosen(t *testing.T) {
	m := &repo.Manifest{Databases: []repo.Database{{Name: "postgres", OID: 5}, {Name: "template1", OID: 1}, {Name: "keep", OID: 16400}, {Name: "leave", OID: 16401}, {Name: "17000", OID: 16402}}}
	for _, name := range []string{
		"pg_data/base/1/PG_VERSION", "pg_data/base/5/PG_VERSION", "pg_data/base/16400/PG_VERSION", "pg_data/base/16401/PG_VERSION", "pg_data/base/16402/PG_VERSION",
		"pg_tblspc/16390/PG_15_202209061/16403/PG_VERSION", "pg_data/base/16401/1259", "pg_data/global/1262",
	} {
		m.Files = append(m.Files, repo.File{Name: name})
	}
	for _, tt := range []struct {
		include, exclude []string
		want             string
		class            repo.Class
	}{
		{nil, nil, "[]", 0},
		{[]string{"keep"}, nil, "[16401 16402 16403]", 0},
		{[]string{"16400", "leave"}, nil, "[16402 16403]", 0},
		{nil, []string{"leave"}, "[16401]", 0},
		{nil, []string{"17000"}, "[16402]", 0}, // no database has that oid, and one that name
		{nil, []string{"postgres"}, "[5]", 0},
		{[]string{"keep"}, []string{"postgres"}, "[16401 16402 16403 5]", 0},
		{[]string{"nobody"}, nil, "", repo.DBMissing},
		{nil, []string{"99999"}, "", repo.DBMissing},
		{[]string{"template1"}, nil, "", repo.DBInvalid},
		{[]string{"keep"}, []string{"keep"}, "", repo.DBInvalid},
	} {
		got, err := Restore{Include: tt.include, Exclude: tt.exclude}.without(m)
		if tt.class != 0 {
			if repo.ClassOf(err) != tt.class {
				t.Errorf("include %v exclude %v: %v, want class %d", tt.include, tt.exclude, err, tt.class)
			}
			continue
		}
		if all := fmt.Sprint(slices.Sorted(maps.Keys(got))); err != nil || all != tt.want {
			t.Errorf("include %v exclude %v: %s, %v, want %s", tt.include, tt.exclude, all, err, tt.want)
		}
	}
	j := job{m: m, empty: map[string]bool{"16401": true, "16403": true}}
	for name, want := range map[string]bool{
		"pg_data/base/16401/1259": true, "pg_data/base/16401/PG_VERSION": false, "pg_data/base/16400/1259": false, "pg_data/global/16401": false,
		"pg_tblspc/16390/PG_15_202209061/16403/16500": true, "pg_tblspc/16403/PG_15_202209061/16400/1": false,
	} {
		if got := j.hollow(&repo.File{Name: name}); got != want {
			t.Errorf("%s is a hole: %v, want %v", name, got, want)
		}
	}
}
