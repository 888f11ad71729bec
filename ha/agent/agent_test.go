package agent

import (
	"testing"

	"howdah/dcs"
)

func TestTheStoreDoesNotGoBack(t *testing.T) {
	h := &hands{}
	for _, tt := range []struct{ revision, want int64 }{{5, 5}, {9, 9}, {7, 9}, {9, 9}, {10, 10}} {
		h.snapshots.Set(dcs.Snapshot{Revision: tt.revision})
		if s, known := h.Store(); !known || s.Revision != tt.want {
			t.Errorf("after %d the store is at %d, want %d", tt.revision, s.Revision, tt.want)
		}
	}
}
