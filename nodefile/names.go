package nodefile

import (
	"os"
	"path/filepath"
	"strings"

	"howdah/spec"
)

// Names is the file in which the role that asks the stores says which address each
// name has now, a line each, for whoever puts them into the machine's file of hosts.
func Names(n spec.Node) string { return filepath.Join(n.Paths.Run, "names") }

// ReadNames are the lines that were said last; none if that can not be read.
func ReadNames(n spec.Node) []string {
	b, err := os.ReadFile(Names(n))
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// WriteNames says them.
func WriteNames(n spec.Node, lines []string) error {
	return WriteFile(Names(n), []byte(strings.Join(lines, "\n")+"\n"), 0o644, -1, -1)
}
