package cli

import (
	"testing"

	"howdah/access/gateway"
	"howdah/control"
)

func TestAccessInOneLine(t *testing.T) {
	leads := func(to ...string) []gateway.Routed {
		return []gateway.Routed{{Name: "primary", Port: 5433, To: to}, {Name: "replica", Port: 5434, To: []string{"a", "b"}}, {Name: "offline", Port: 5438}}
	}
	for want, all := range map[string][]control.Gateway{
		"2 of 2 gateways up; 5433 leads to c; 5434 leads to a, b": {{Member: "a", Services: leads("c")}, {Member: "b", Services: leads("c")}},
		"1 of 2 gateways up; 5433 leads to nobody, clients wait; 5434 leads to a, b; a does not answer": {
			{Member: "a", Unwell: "does not answer"}, {Member: "b", Services: leads()},
		},
		"no gateway runs":                       nil,
		"0 of 1 gateways up; a does not answer": {{Member: "a", Unwell: "does not answer"}},
	} {
		if got := accessText(all); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
