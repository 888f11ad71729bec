package nodefile

import (
	"encoding/json"
	"os"
	"path/filepath"

	"howdah/problem"
	"howdah/spec"
)

// A VIP is what the role of the virtual address says of itself, for the agent
// who publishes it. It lies beside the pid files and is gone after a reboot.
type VIP struct {
	Address string        `json:"address"` // "10.10.10.2/24"; "": the role has not said anything
	Held    bool          `json:"held"`
	Trail   string        `json:"trail"` // why
	Problem problem.Error `json:"problem,omitzero"`
}

func vipOf(n spec.Node) string { return filepath.Join(n.Paths.Run, "vip.json") }

// ReadVIP is the last that was said; what can not be read is nothing.
func ReadVIP(n spec.Node) (v VIP) {
	b, err := os.ReadFile(vipOf(n))
	if err != nil || json.Unmarshal(b, &v) != nil {
		return VIP{}
	}
	return v
}

// WriteVIP says it.
func WriteVIP(n spec.Node, v VIP) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return WriteFile(vipOf(n), append(b, '\n'), 0o644, -1, -1)
}
