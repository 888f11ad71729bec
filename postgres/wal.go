package postgres

import (
	"os"
	"path/filepath"
	"slices"
)

// walNames returns the names in pg_wal, sorted.
func walNames(data string) ([]string, error) {
	d, err := os.Open(filepath.Join(data, "pg_wal"))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}
