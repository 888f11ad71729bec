package playground

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"howdah/problem"
	"howdah/spec"
)

func TestIllSaysAll(t *testing.T) {
	for _, tt := range []struct {
		ill  Ill
		want string
	}{
		{Ill{}, ""},
		{Ill{Frozen: []string{WholeNode}}, "frozen"},
		{Ill{Frozen: []string{"agent", "etcd"}}, "agent and etcd frozen"},
		{Ill{NotTo: []string{All}, NotFrom: []string{All}}, "cut off from all"},
		{Ill{NotTo: []string{"b"}, NotFrom: []string{"b", "c"}}, "what it sends to b is lost; what b, c sends to it is lost"},
		{Ill{Slow: Slow{Delay: 50 * time.Millisecond}}, "slow network: each frame 50ms late, each way"},
		{
			Ill{Frozen: []string{"agent"}, Slow: Slow{Rate: 125_000, Loss: 0.025}},
			"agent frozen; slow network: 1000 kbit a second, 2.5% of frames lost, each way",
		},
	} {
		if got := tt.ill.String(); got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.ill, got, tt.want)
		}
		if tt.ill.well() != (tt.want == "") {
			t.Errorf("%+v: well is %v", tt.ill, tt.ill.well())
		}
	}
}

func TestWireOf(t *testing.T) {
	all := []string{All}
	for _, tt := range []struct {
		name string
		ill  Ill
		want wire
	}{
		{"a frozen agent has a good wire", Ill{Frozen: []string{"agent"}}, wire{}},
		{"a frozen node has none", Ill{Frozen: []string{WholeNode}}, wire{mute: all, deaf: all}},
		{"whatever else ails it", Ill{Frozen: []string{WholeNode}, NotTo: []string{"b"}, Slow: Slow{Loss: 1}}, wire{mute: all, deaf: all}},
		{"one way", Ill{NotFrom: []string{"b"}}, wire{deaf: []string{"b"}}},
	} {
		if got := wireOf(tt.ill); !got.equal(tt.want) {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestPeersAddUp(t *testing.T) {
	for _, tt := range []struct{ a, b, want []string }{
		{nil, []string{"c", "b"}, []string{"b", "c"}},
		{[]string{"b"}, []string{"b", Doors}, []string{"b", Doors}},
		{[]string{"b"}, []string{All}, []string{All}},
		{[]string{All}, nil, []string{All}},
	} {
		if got := peers(tt.a, tt.b); !slices.Equal(got, tt.want) {
			t.Errorf("peers(%v, %v) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

// The bridge takes no address that a node has.
func TestHubAddresses(t *testing.T) {
	for _, tt := range []struct{ nodes, want []string }{
		{[]string{"10.10.10.11", "10.10.10.12"}, []string{"10.10.10.1"}},
		{[]string{"10.10.10.1", "10.10.10.254"}, []string{"10.10.10.253"}},
		{[]string{"10.10.10.1", "10.10.20.2"}, []string{"10.10.10.254", "10.10.20.1"}},
	} {
		var nodes []spec.Node
		for _, a := range tt.nodes {
			nodes = append(nodes, spec.Node{Address: a})
		}
		var want []netip.Addr
		for _, a := range tt.want {
			want = append(want, netip.MustParseAddr(a))
		}
		if got := hubAddresses(nodes); !slices.Equal(got, want) {
			t.Errorf("%v: got %v, want %v", tt.nodes, got, want)
		}
	}
}

// Without a network of its own a node can not be cut off, which is said before
// anything is done.
func TestLoopbackHasNoWires(t *testing.T) {
	s := State{Ground: Loopback, Run: t.TempDir(), Reason: "no privilege"}
	for name, err := range map[string]error{
		"cut":  s.Cut(t.Context(), []string{"a"}, []string{All}, []string{All}),
		"slow": s.Slow(t.Context(), []string{"a"}, Slow{Delay: time.Second}),
	} {
		if problem.Code(err) != "ground-network" {
			t.Errorf("%s: got %v, want ground-network", name, err)
		}
	}
	if f, err := s.Faults(); err != nil || len(f.Members) != 0 {
		t.Errorf("faults are %+v, %v", f, err)
	}
	if err := s.Heal(t.Context(), []string{"a"}); err != nil {
		t.Errorf("healing what is well: %v", err)
	}
}
