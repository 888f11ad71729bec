package nodefile

import (
	"encoding/json"
	"os"
	"path/filepath"

	"howdah/problem"
	"howdah/spec"
)

// Hangs is what the guard says of agents that it had to end, for the next one. It lies
// beside the pid files and is gone after a reboot.
type Hangs struct {
	Problem problem.Error `json:"problem,omitzero"`
}

func hangsOf(n spec.Node) string { return filepath.Join(n.Paths.Run, "hangs.json") }

// ReadHangs is the last that was said; what can not be read is nothing.
func ReadHangs(n spec.Node) (h Hangs) {
	b, err := os.ReadFile(hangsOf(n))
	if err != nil || json.Unmarshal(b, &h) != nil {
		return Hangs{}
	}
	return h
}

// WriteHangs says it.
func WriteHangs(n spec.Node, h Hangs) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return WriteFile(hangsOf(n), append(b, '\n'), 0o644, -1, -1)
}
