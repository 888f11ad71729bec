package cli

import (
	"strings"
	"testing"

	"howdah/cluster"
)

func TestParseMaxLoss(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "0": 0, "1": 1, "512kB": 512 << 10, "1MB": 1 << 20, "16mb": 16 << 20, "2GB": 2 << 30, "1TB": 1 << 40} {
		if got, err := parseMaxLoss(text); got != want || err != nil {
			t.Errorf("%q: got %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"x", "MB", "1 MB", "-1", "1.5MB", "1MiB", "8193TB", "9999999999999999999"} {
		if got, err := parseMaxLoss(text); err == nil {
			t.Errorf("%q: got %d", text, got)
		}
	}
}

// What a cluster has in the store is told where it is not what was asked for, with
// the command that changes it.
func TestKeeps(t *testing.T) {
	quorum := map[string]any{"synchronous_mode": "quorum", "synchronous_mode_strict": true, "maximum_lag_on_failover": 1 << 20}
	async := map[string]any{"maximum_lag_on_failover": 4096}
	for _, tt := range []struct {
		has  map[string]any
		most int64
		want string
	}{
		{quorum, 0, ""},
		{async, 4096, ""},
		{async, 0, "edit-config demo --set synchronous_mode=quorum --set synchronous_mode_strict=true`"},
		{quorum, 1 << 20, "keeps synchronous_mode=quorum; `howdah edit-config demo --set synchronous_mode=off --set maximum_lag_on_failover=1048576`"},
		{async, 8192, "keeps maximum_lag_on_failover=4096; `howdah edit-config demo --set maximum_lag_on_failover=8192`"},
	} {
		var said strings.Builder
		a := &app{Process: Process{Err: &said}}
		a.keeps("demo", cluster.Config{Data: tt.has}, tt.most)
		if got := said.String(); !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
			t.Errorf("%v, asked for %d: got %q, want %q", tt.has, tt.most, got, tt.want)
		}
	}
}
