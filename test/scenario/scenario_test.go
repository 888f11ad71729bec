package scenario

import (
	"os"
	"path/filepath"
	"testing"
)

// seeds is how many lives each script has.
const seeds = 20

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			script, err := Parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			for seed := uint64(1); seed <= seeds; seed++ {
				if w, err := script.Run(seed); err != nil {
					t.Fatalf("seed %d: %v\n%s", seed, err, w.Why(400))
				}
			}
		})
	}
}

func TestParse(t *testing.T) {
	for _, bad := range []string{"", "cluster a b c", "cluster a\nat soon: kill-agent a\n----\nno row is lost", "cluster a\nat 2s: x a\nat 1s: x a\n----\nno row is lost", "cluster a\nhello\n----\nno row is lost"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q: read without an error", bad)
		}
	}
}
