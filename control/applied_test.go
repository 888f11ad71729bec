package control

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"howdah/cluster"
)

// Who applied what is kept from the first step on, and the oldest goes.
func TestWhatWasAppliedIsKept(t *testing.T) {
	w := newWorld(t)
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	w.c.now = func() time.Time { at = at.Add(time.Second); return at }
	j := w.c.journal("apply a.yml")
	if err := j.end(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all, err := w.c.Applied(t.Context()); err != nil || len(all) != 0 {
		t.Fatalf("nothing was done, and kept is %v, %v", all, err)
	}
	j.note(t.Context(), "made role a", nil)
	all, err := w.c.Applied(t.Context())
	if err != nil || len(all) != 1 || !all[0].Ended.IsZero() || all[0].By == "" || all[0].What != "apply a.yml" {
		t.Fatalf("cut off now it would be %+v, %v", all, err)
	}
	j.note(t.Context(), "make role b", errors.New("it\nfailed"))
	for i := range 200 {
		j.note(t.Context(), fmt.Sprint("made role ", i, strings.Repeat("x", 1000)), nil)
	}
	if err := j.end(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, _ = w.c.Applied(t.Context())
	if r := all[0]; len(all) != 1 || r.Ended.IsZero() || r.Steps[0] != "made role a" || r.Failed[0] != "make role b: it failed" || r.More == 0 || len(r.Encode()) > 50_000 {
		t.Errorf("got %+v", r)
	}
	for range 2 * cluster.AppliedKept {
		j := w.c.journal("up")
		j.note(t.Context(), "made role c", nil)
		if err := j.end(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if all, _ = w.c.Applied(t.Context()); len(all) != cluster.AppliedKept || all[0].Key < all[1].Key {
		t.Errorf("%d are kept, the first %s", len(all), all[0].Key)
	}
	if s, err := w.c.State(t.Context()); err != nil || len(s.Problems) > 0 {
		t.Errorf("whoever reads the cluster finds %v, %v", s.Problems, err)
	}
}
