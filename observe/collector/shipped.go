package collector

import (
	"embed"
	"io/fs"
)

//go:embed shipped/*.yml
var files embed.FS

// Shipped are the collectors that come with us, for PostgreSQL 14 to 18.
func Shipped() ([]Collector, error) {
	names, err := fs.Glob(files, "shipped/*.yml") // sorted
	if err != nil {
		return nil, err
	}
	var all [][]Collector
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		file, _, err := Parse(name, text)
		if err != nil {
			return nil, err
		}
		all = append(all, file)
	}
	return Merge(all...), nil
}
