package playground

import (
	"os"
	"path/filepath"
	"strconv"

	"howdah/problem"
)

type installation struct {
	Bin   string
	Major int
}

// programs finds the newest PostgreSQL.
func programs() (installation, error) {
	for major := 18; major >= 14; major-- {
		bin := filepath.Join("/usr/lib/postgresql", strconv.Itoa(major), "bin")
		if _, err := os.Stat(filepath.Join(bin, "initdb")); err == nil {
			return installation{bin, major}, nil
		}
	}
	return installation{}, &problem.Error{
		Code: "postgres-missing", What: "PostgreSQL is not installed", Do: "install postgresql from the distribution",
	}
}
