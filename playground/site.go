package playground

import (
	"os"
	"path/filepath"

	"howdah/problem"
)

// A site is where a playground is to be built.
type site struct {
	state State
	demo  string // directory of the cluster
	bare  bool   // nothing was there: everything there is ours
	first string // the first directory on the way that was missing; "": none
}

// look remembers what was there before the playground.
func look(o Options) site {
	s := site{
		state: State{Dir: o.Dir, Run: runDir(o.Dir), Binary: binary(o.Dir)},
		demo:  filepath.Join(o.Dir, o.Cluster),
	}
	for d := o.Dir; ; d = filepath.Dir(d) {
		if _, err := os.Lstat(d); !os.IsNotExist(err) {
			break
		}
		s.first = d
	}
	entries, err := os.ReadDir(o.Dir)
	s.bare = s.first != "" || err == nil && len(entries) == 0
	return s
}

// refusal says that err came before anything ran that could leave a trace worth reading.
func refusal(err error) bool {
	code := problem.Code(err)
	return code != "" && code != "keeper-died"
}

// clear takes away what was built where nothing had been. What cannot be
// removed stays: the refusal is what the caller has to hear.
func (s site) clear() {
	if _, runs := s.state.keeper(); runs || !s.bare {
		return
	}
	if nodes, err := Nodes(s.state.Dir); err == nil {
		for _, n := range nodes {
			if s.state.occupied(n) {
				return
			}
		}
	}
	if s.state.erase(s.demo) != nil || s.first == "" {
		return
	}
	for d := s.state.Dir; os.Remove(d) == nil && d != s.first; d = filepath.Dir(d) {
	}
}
