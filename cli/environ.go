package cli

import (
	"os"
	"slices"
	"strings"
)

// elsewhere tells whether a variable says where libpq, and pgx in this process,
// connect, as whom and by which proof. A shell that was set up for one server
// must not lead a verb about another there.
func elsewhere(name string) bool {
	return strings.HasPrefix(name, "PG") && !strings.Contains(name, "_") &&
		!slices.Contains([]string{"PGAPPNAME", "PGCLIENTENCODING", "PGDATESTYLE", "PGGEQO", "PGOPTIONS", "PGTZ"}, name)
}

// forgetElsewhere is for this process. Passwords are left to the inventory in a
// database, whose address has a person's own (postgresql://…).
func forgetElsewhere() {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); elsewhere(name) && name != "PGPASSWORD" && name != "PGPASSFILE" {
			_ = os.Unsetenv(name) // a name that is there is a good one
		}
	}
}

// environ is what a program finds that is to connect where settings say.
func environ(settings []string) []string {
	return append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return elsewhere(name)
	}), settings...)
}
