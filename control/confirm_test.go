package control

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/spec"
)

// Only what a member moved aside to follow the restore goes with its confirmation.
func TestMovedForARestore(t *testing.T) {
	n := spec.Node{Member: "b", Paths: spec.Paths{Dir: t.TempDir()}}
	for _, name := range []string{
		"20261121T120001.000Z-3-0-5000000", // its end of the log that was given up
		"20261121T115959.000Z-3-0-5000000", // of a failover before
		"20261121T120001.000Z-4-0-7000000", // of a failover after
		"before-20261121T120000Z", "data-20261121T120001.000Z", "notes",
	} {
		if err := os.MkdirAll(filepath.Join(n.Paths.Dir, "kept", name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r := cluster.Restore{Timeline: 4, At: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	if got, want := movedFor(r, n), []string{filepath.Join(n.Paths.Dir, "kept", "20261121T120001.000Z-3-0-5000000")}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want) // of data without a control file nothing is known
	}
}
