package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"howdah/access/route"
	"howdah/logkey"
	"howdah/nodefile"
)

// What a person set by hand (drain, maint) is kept in a file of the node, so
// that the next gateway does not send clients where work is being done.

// A mark is one setting there.
type mark struct {
	Namespace string     `json:"namespace"`
	Cluster   string     `json:"cluster"`
	Service   string     `json:"service"`
	Member    string     `json:"member"`
	Mode      route.Mode `json:"mode"`
}

func (g *Gateway) marks() string { return filepath.Join(g.node.Paths.Dir, "servers.json") }

// recall takes up what was set before. What can not be read is said and not
// taken for nothing: the file stays until something is set anew.
func (g *Gateway) recall() {
	text, err := os.ReadFile(g.marks())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var marks []mark
	if err == nil {
		err = json.Unmarshal(text, &marks)
	}
	if err != nil {
		g.log.Error("what was set by hand is not in force", logkey.Error, err)
		return
	}
	for _, f := range g.fronts {
		for _, m := range marks {
			if m.Namespace != f.Namespace || m.Cluster != f.Cluster || m.Mode != route.Drain && m.Mode != route.Maint {
				continue
			}
			f.view.Settings = append(f.view.Settings, route.Setting{Service: m.Service, Member: m.Member, Mode: m.Mode})
			g.log.Info("server set by hand before", "service", m.Service, logkey.Member, m.Member, logkey.Action, string(m.Mode))
		}
	}
}

// remember writes what is set now.
func (g *Gateway) remember() error {
	marks := []mark{}
	for _, f := range g.fronts {
		f.mu.Lock()
		for _, s := range f.view.Settings {
			marks = append(marks, mark{f.Namespace, f.Cluster, s.Service, s.Member, s.Mode})
		}
		f.mu.Unlock()
	}
	text, err := json.MarshalIndent(marks, "", "  ")
	if err != nil {
		return err
	}
	g.marking.Lock()
	defer g.marking.Unlock()
	if err := nodefile.WriteFile(g.marks(), append(text, '\n'), 0o600, -1, -1); err != nil {
		return fmt.Errorf("remember what is set by hand: %w", err)
	}
	return nil
}
