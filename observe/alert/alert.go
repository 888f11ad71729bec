// Package alert holds the rules that ship: the derived series that dashboards
// know by name, and the alerts, each with the entry of docs/problems.md that
// says what it means and what to do.
//
// The rules are Prometheus's own files, for whoever runs a Prometheus beside
// Howdah as for ours. Where a series or alert of the same name elsewhere is known
// to be wrong, it is right here; docs/observation.md lists these.
package alert

import (
	"embed"
	"io/fs"
	"path"
	"slices"
)

//go:embed rules/*.yml
var files embed.FS

// A File is one file of rules.
type File struct {
	Name string // pgsql.yml
	Text []byte
}

// Shipped are the files that come with us, by name.
func Shipped() []File {
	var all []File
	names, err := fs.Glob(files, "rules/*.yml")
	if err != nil {
		panic(err) // only a malformed pattern is an error
	}
	slices.Sort(names)
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			panic(err) // it is part of the program
		}
		all = append(all, File{path.Base(name), text})
	}
	return all
}
