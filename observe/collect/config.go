package collect

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"howdah/logkey"
	"howdah/observe/collector"
	"howdah/problem"
)

// Shipped is the name of the collectors that come with us, in place of a file.
const Shipped = "shipped"

// usual are the places where pg_exporter looks for its collectors.
var usual = []string{"pg_exporter.yml", "/etc/pg_exporter.yml", "/etc/pg_exporter"}

// Find returns where collectors are: at path, or where they usually are.
func Find(path string) (string, error) {
	places := usual
	if path != "" {
		places = []string{path}
	}
	if path == Shipped {
		return path, nil
	}
	var errs []error
	for _, p := range places {
		_, err := os.Stat(p)
		if err == nil {
			return p, nil
		}
		errs = append(errs, err)
	}
	err := errors.Join(errs...)
	return "", &problem.Error{
		Code: "exporter-config", What: "found no collectors", Why: err.Error(),
		Do: "name a file with --config, or --config shipped for those that come with Howdah", Err: err,
	}
}

// Load reads the collectors at path: a file, or the files of a directory in
// the order of their names, where later ones win. One of a directory that
// cannot be used is left out, and logged.
func Load(path string, log *slog.Logger) ([]collector.Collector, error) {
	if path == Shipped {
		return collector.Shipped()
	}
	st, err := os.Stat(path)
	if err != nil || !st.IsDir() {
		return loadFile(path, log)
	}
	entries, err := os.ReadDir(path) // sorted
	if err != nil {
		return nil, unreadable(path, err)
	}
	var files [][]collector.Collector
	for _, e := range entries {
		if e.IsDir() || !slices.Contains([]string{".yml", ".yaml"}, filepath.Ext(e.Name())) {
			continue
		}
		all, err := loadFile(filepath.Join(path, e.Name()), log)
		if err != nil {
			log.Warn("file of collectors left out", logkey.Path, e.Name(), logkey.Error, err)
			continue
		}
		files = append(files, all)
	}
	all := collector.Merge(files...)
	if len(all) == 0 {
		return nil, unreadable(path, fs.ErrNotExist)
	}
	return all, nil
}

func loadFile(path string, log *slog.Logger) ([]collector.Collector, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	all, warnings, err := collector.Parse(path, text)
	for _, w := range warnings {
		log.Warn("file of collectors", "warning", w)
	}
	return all, err
}

func unreadable(path string, err error) error {
	return &problem.Error{
		Code: "exporter-config", What: "cannot read the collectors of " + path, Why: err.Error(),
		Do: "name a file of collectors, or a directory with some, that this user can read", Err: err,
	}
}
