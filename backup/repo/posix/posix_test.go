package posix

import (
	"testing"

	"howdah/backup/repo"
	"howdah/backup/repo/repotest"
)

func TestContract(t *testing.T) {
	repotest.Test(t, func(t *testing.T) repo.Storage { return Store{t.TempDir()} })
}

// A name from a manifest must not lead out of the repository.
func TestStaysInside(t *testing.T) {
	s := Store{t.TempDir()}
	for _, name := range []string{"../x", "/etc/passwd", "a/../../x", ""} {
		if _, err := s.Get(t.Context(), name, 0, -1); repo.ClassOf(err) != repo.Assert {
			t.Errorf("Get(%q) = %v", name, err)
		}
	}
}
