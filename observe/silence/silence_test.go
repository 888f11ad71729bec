package silence

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"howdah/observe/notice"
)

// Many who silence at once lose nothing of each other's; what ended long ago goes,
// and a file that can not be read is not overwritten.
func TestChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "silences.json")
	if all, err := Load(path); err != nil || len(all) != 0 {
		t.Fatalf("without a file: %v %v", all, err)
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	add := func(s notice.Silence) error {
		return Change(path, now, func(all []notice.Silence) ([]notice.Silence, error) { return append(all, s), nil })
	}
	if err := add(notice.Silence{ID: "old", Ends: now.Add(-keepEnded - time.Second)}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := add(notice.Silence{ID: fmt.Sprint(i), Ends: now.Add(time.Hour)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	all, err := Load(path)
	if err != nil || len(all) != 20 {
		t.Fatalf("%d are there, 20 should be: %v", len(all), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if err := Change(path, now, func(all []notice.Silence) ([]notice.Silence, error) { return make([]notice.Silence, most+1), nil }); !errors.Is(err, ErrMany) {
		t.Errorf("more than there may be: %v", err)
	}
	if err := os.WriteFile(path, []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := add(notice.Silence{ID: "x"}); err == nil {
		t.Error("a broken file was overwritten")
	}
	if text, _ := os.ReadFile(path); string(text) != "[{" {
		t.Errorf("the broken file is %s", text)
	}
}
