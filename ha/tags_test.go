package ha

import (
	"testing"

	"howdah/cluster"
)

func TestTagsOfTheDescriptionArePublished(t *testing.T) {
	seen := cluster.Member{Tags: cluster.Tags{"nofailover": true}}
	for _, tt := range []struct {
		own, want cluster.Tags
	}{
		{nil, cluster.Tags{"nofailover": true}}, // nobody said anything: those it has stay
		{cluster.Tags{}, cluster.Tags{}},        // the description has none, not any more
		{cluster.Tags{"replicatefrom": "a"}, cluster.Tags{"replicatefrom": "a"}},
	} {
		u := turn{View: View{Self: Self{Tags: tt.own}}}
		if got := u.tags(seen); len(got) != len(tt.want) || got["replicatefrom"] != tt.want["replicatefrom"] || got["nofailover"] != tt.want["nofailover"] {
			t.Errorf("own %v: published %v, want %v", tt.own, got, tt.want)
		}
	}
}
