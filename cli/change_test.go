package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"howdah/ha"
)

// switchover --dry-run says who would lead, and why nobody else.
func TestWouldLead(t *testing.T) {
	all := []ha.Candidate{
		{Member: "demo-2", At: 900},
		{Member: "demo-3", At: 800, Behind: 100},
		{Member: "demo-4", No: "its tag nofailover"},
	}
	for _, tt := range []struct {
		named bool
		first string
		want  string
	}{
		{false, "demo-2", `would switch over
demo-2 would lead, as things are: of those who may, nobody has told of more log
  demo-2  all of the log    would lead
  demo-3  100 bytes behind  may lead
  demo-4  -                 no: its tag nofailover
what each has is what was told last, up to a few seconds ago; the leader decides by what it sees then
`},
		{true, "demo-3", `would switch over
demo-3 would lead
  demo-2  all of the log    may lead
  demo-3  100 bytes behind  would lead
  demo-4  -                 no: its tag nofailover
what each has is what was told last, up to a few seconds ago; the leader decides by what it sees then
`},
		{false, "", `would switch over
nobody can take over as things are
  demo-2  all of the log    may lead
  demo-3  100 bytes behind  may lead
  demo-4  -                 no: its tag nofailover
what each has is what was told last, up to a few seconds ago; the leader decides by what it sees then
`},
	} {
		var out strings.Builder
		a := &app{Process: Process{Out: &out}}
		a.wouldLead("switch over", tt.named, tt.first, all)
		if out.String() != tt.want {
			t.Errorf("got\n%swant\n%s", out.String(), tt.want)
		}
	}
	var out strings.Builder
	a := &app{Process: Process{Out: &out}, json: true}
	a.wouldLead("switch over", false, "demo-2", all)
	var got struct {
		DryRun     bool           `json:"dry_run"`
		First      string         `json:"would_lead"`
		Candidates []ha.Candidate `json:"candidates"`
	}
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil || !got.DryRun || got.First != "demo-2" || len(got.Candidates) != 3 || got.Candidates[1] != all[1] {
		t.Errorf("%v: %s", err, out.String())
	}
}
