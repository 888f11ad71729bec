package mem

import (
	"testing"

	"howdah/backup/repo"
	"howdah/backup/repo/repotest"
)

func TestContract(t *testing.T) {
	repotest.Test(t, func(*testing.T) repo.Storage { return &Store{} })
}
