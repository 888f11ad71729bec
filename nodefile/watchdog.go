package nodefile

import (
	"encoding/json"
	"os"
	"path/filepath"

	"howdah/problem"
	"howdah/spec"
)

// A Watchdog is what the guard says of the node's watchdog, for the agent. It lies
// beside the pid files and is gone after a reboot.
type Watchdog struct {
	Ready   bool          `json:"ready"` // it could be armed
	Armed   bool          `json:"armed"`
	Problem problem.Error `json:"problem,omitzero"` // why it is neither, where that matters
}

func watchdogOf(n spec.Node) string { return filepath.Join(n.Paths.Run, "watchdog.json") }

// ReadWatchdog is the last that was said; what can not be read is nothing.
func ReadWatchdog(n spec.Node) (w Watchdog) {
	b, err := os.ReadFile(watchdogOf(n))
	if err != nil || json.Unmarshal(b, &w) != nil {
		return Watchdog{}
	}
	return w
}

// WriteWatchdog says it.
func WriteWatchdog(n spec.Node, w Watchdog) error {
	b, err := json.Marshal(w)
	if err != nil {
		return err
	}
	return WriteFile(watchdogOf(n), append(b, '\n'), 0o644, -1, -1)
}
