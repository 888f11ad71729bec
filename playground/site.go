package playground

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"howdah/nodefile"
	"howdah/problem"
	"howdah/spec"
)

// A site is where a playground is to be built, and what stood there before.
type site struct {
	state State
	bare  bool     // there was no playground
	ours  []string // what Up may make there and was not there, the deepest first
	first string   // the first directory on the way that was missing; "": none
}

// look remembers what was there before the playground.
func look(o Options) site {
	s := site{state: State{Dir: o.Dir, Run: runDir(o.Dir), Binary: binary(o.Dir)}}
	_, err := Load(o.Dir)
	s.bare = problem.Code(err) == "playground-none"
	for d := o.Dir; ; d = filepath.Dir(d) {
		if _, err := os.Lstat(d); !os.IsNotExist(err) {
			break
		}
		s.first = d
	}
	paths := append(s.state.files(), s.state.authority(), s.state.Run)
	for _, name := range o.directories() {
		paths = append(paths, filepath.Join(o.Dir, name))
	}
	for _, p := range append(paths, s.state.Binary, filepath.Dir(s.state.Binary)) {
		if _, err := os.Lstat(p); os.IsNotExist(err) {
			s.ours = append(s.ours, p)
		}
	}
	return s
}

// vacant refuses a directory in which somebody else keeps something where the
// playground's own would go: it would be mixed with it, and purged with it.
func (s site) vacant(cluster string) error {
	if err := spec.CheckNames(cluster, nil); err != nil {
		return err
	}
	if !s.bare {
		return nil
	}
	for dir, mine := range map[string]func(name string) bool{
		filepath.Dir(s.state.Binary): func(name string) bool {
			return name == filepath.Base(s.state.Binary) || strings.HasPrefix(name, halfCopied)
		},
		filepath.Join(s.state.Dir, cluster): func(string) bool {
			// What an Up that was killed has left begins with this file.
			_, err := os.Lstat(filepath.Join(s.state.Dir, cluster, secretsName))
			return err == nil
		},
	} {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			return &problem.Error{
				Code: "datadir-path", What: "cannot make a playground in " + s.state.Dir, Why: dir + " can not be used",
				Do: "give another directory with --dir", Err: err,
			}
		}
		for _, e := range entries {
			if !mine(e.Name()) {
				return &problem.Error{
					Code: "dir-occupied", What: "cannot make a playground in " + s.state.Dir,
					Why: dir + " is not empty and not of a playground: " + e.Name() + " is in it",
					Do:  "give a directory of its own with --dir; nothing was changed",
				}
			}
		}
	}
	return nil
}

// files are what a playground keeps in its directory beside the directories of
// its clusters and the program.
func (s State) files() []string {
	return []string{filepath.Join(s.Dir, "keeper.log"), filepath.Join(s.Dir, "keeper.lock"), stateFile(s.Dir)}
}

// refusal says that err came before anything ran that could leave a trace worth reading.
func refusal(err error) bool {
	code := problem.Code(err)
	return code != "" && code != "keeper-died"
}

// clear takes away what Up made where no playground had been; what somebody
// else put there stays. What cannot be removed stays too: the refusal is what
// the caller has to hear.
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
	if s.state.raze() != nil {
		return
	}
	for _, p := range s.ours {
		if os.RemoveAll(p) != nil {
			return
		}
	}
	if s.first == "" {
		return
	}
	for d := s.state.Dir; os.Remove(d) == nil && d != s.first; d = filepath.Dir(d) {
	}
}

// named refuses nodes whose names can not be used: of their clusters, of
// members beside each other, and of directories beside what is ours in DIR.
func named(nodes []spec.Node) error {
	clusters := map[string][]string{}
	var names []string
	for _, n := range nodes {
		if clusters[n.Cluster] == nil {
			names = append(names, n.Cluster)
		}
		clusters[n.Cluster] = append(clusters[n.Cluster], n.Member)
	}
	for _, name := range names {
		if err := spec.CheckNames(name, clusters[name]); err != nil {
			return err
		}
		if slices.Contains([]string{"bin", "ca", "keeper.log", "keeper.lock", "playground.json", nodefile.Name}, name) {
			return &problem.Error{
				Code: "name-unusable", What: "cannot call a cluster of a playground " + name,
				Why: "its directory would be where the playground keeps something else",
				Do:  "give it another name, like pg-meta",
			}
		}
	}
	return nil
}

// noDirectory says why dir could not be made.
func noDirectory(dir string, err error) error {
	p := &problem.Error{
		Code: "datadir-path", What: "cannot make the playground's directory " + dir,
		Do: "give another directory with --dir", Err: err,
	}
	if errors.Is(err, os.ErrNotExist) { // of mkdir, where all above it exist
		for d := dir; d != filepath.Dir(d); d = filepath.Dir(d) {
			if _, err := os.Stat(filepath.Dir(d)); err == nil {
				p.Why, p.Err = filepath.Dir(d)+" takes no new directory", nil
				break
			}
		}
	}
	return p
}
