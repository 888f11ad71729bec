// Package playground runs many nodes on one machine: the same supervisors and
// roles as on real machines, each with an address of its own, and the faults
// to try on them.
//
// A hidden process, the keeper, is the machines' init: it starts each node's
// supervisor, starts it again when it dies, and carries host connections to
// nodes that live in network namespaces. Everything a playground makes is
// below its directory and its run directory; nothing else of the host changes.
package playground

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"howdah/node"
	"howdah/node/process"
	"howdah/nodefile"
	"howdah/problem"
	"howdah/spec"
)

// A Ground is what the nodes' network stands on.
type Ground string

// Grounds.
const (
	// Auto is isolated where it can be made, else loopback.
	Auto Ground = ""
	// Loopback gives 10.x.y.z the address 127.x.y.z of the host. All traffic
	// has one source, so the network cannot be cut.
	Loopback Ground = "loopback"
	// Isolated gives each node a network namespace with its inventory address.
	Isolated Ground = "isolated"
)

// ParseGround reads the value of --ground.
func ParseGround(s string) (Ground, error) {
	switch g := Ground(s); g {
	case Auto, Loopback, Isolated:
		return g, nil
	}
	return Auto, &problem.Error{
		Code: "ground-unknown", What: "cannot use ground " + strconv.Quote(s), Why: "there is no such ground",
		Do: "give --ground loopback or --ground isolated, or leave it out",
	}
}

// State is what a playground is: DIR/playground.json.
type State struct {
	Dir     string   `json:"dir"`
	Ground  Ground   `json:"ground"`
	Reason  string   `json:"reason,omitempty"` // why it is not the isolated ground, when that was wished
	Run     string   `json:"run"`              // run directory of all nodes
	Binary  string   `json:"binary"`           // the copy of howdah
	Members []string `json:"members"`          // directories of the nodes, each in its seat; "": the node that had it has left

	Substituted []string `json:"substituted"` // what is not as the inventory has it, in words
}

func stateFile(dir string) string { return filepath.Join(dir, "playground.json") }

// Load reads the playground in dir.
func Load(dir string) (State, error) {
	b, err := os.ReadFile(stateFile(dir))
	if errors.Is(err, os.ErrNotExist) {
		return State{}, &problem.Error{
			Code: "playground-none", What: "there is no playground in " + dir, Why: "it was never started, or it was purged",
			Do: "run `howdah up`, or name its directory with --dir",
		}
	}
	if errors.Is(err, unix.ENOTDIR) {
		return State{}, &problem.Error{
			Code: "datadir-path", What: "cannot use " + dir + " as a state directory", Why: notDirectory(dir) + " is not a directory",
			Do: "name a directory with --dir; a new one is made",
		}
	}
	if err != nil {
		return State{}, &problem.Error{
			Code: "datadir-path", What: "cannot use " + dir + " as a state directory",
			Do: "run as its owner, or name another directory with --dir", Err: err,
		}
	}
	var s State
	if err := json.Unmarshal(b, &s); err != nil { // keys of another version are passed over
		return State{}, &problem.Error{
			Code: "playground-file", What: "cannot read the description of the playground in " + dir, Why: stateFile(dir),
			Do: "restore the file from a copy; with its ground and members it says which processes are the playground's", Err: err,
		}
	}
	return s, nil
}

// notDirectory is the part of a path that something else than a directory stands at.
func notDirectory(path string) string {
	for d := path; d != filepath.Dir(d); d = filepath.Dir(d) {
		if st, err := os.Stat(d); err == nil && !st.IsDir() {
			return d
		}
	}
	return path
}

func (s State) save() error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return nodefile.WriteFile(stateFile(s.Dir), append(b, '\n'), 0o644, -1, -1)
}

// Nodes reads the nodes of the playground.
func (s State) Nodes() ([]spec.Node, error) {
	var nodes []spec.Node
	for _, dir := range s.Members {
		if dir == "" {
			continue
		}
		n, err := nodefile.Load(dir)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// Nodes reads the nodes of the playground in dir.
func Nodes(dir string) ([]spec.Node, error) {
	s, err := Load(dir)
	if err != nil {
		return nil, err
	}
	return s.Nodes()
}

// DefaultDir is where the playground of this user is.
func DefaultDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/howdah", nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "howdah"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("state directory: %w", err)
	}
	return filepath.Join(home, ".local", "state", "howdah"), nil
}

// runDir is the short directory in tmpfs for the playground in dir.
func runDir(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	name := hex.EncodeToString(sum[:4])
	switch base := os.Getenv("XDG_RUNTIME_DIR"); {
	case os.Geteuid() == 0:
		return filepath.Join("/run/howdah", name)
	case filepath.IsAbs(base):
		return filepath.Join(base, "howdah", name)
	}
	return filepath.Join(os.TempDir(), "howdah-"+strconv.Itoa(os.Geteuid()), name)
}

// Door is the address at which the host reaches the node, on either ground.
func Door(n spec.Node) string {
	a, err := doorOf(n.Host)
	if err != nil {
		return n.Address
	}
	return a.String()
}

// doorOf maps 10.x.y.z to 127.x.y.z.
func doorOf(host string) (netip.Addr, error) {
	a, err := netip.ParseAddr(host)
	if err != nil || !a.Is4() {
		return netip.Addr{}, &problem.Error{
			Code: "host-address", What: "cannot place host " + host + " on this machine",
			Why: "a playground needs an IPv4 address", Do: "write the host's IPv4 address into the inventory", Err: err,
		}
	}
	b := a.As4()
	b[0] = 127
	return netip.AddrFrom4(b), nil
}

// Files of one node that are the playground's own.
func stoppedMark(n spec.Node) string { return filepath.Join(n.Paths.Dir, "stopped") }

// Stopped reports whether the node is meant not to run.
func Stopped(n spec.Node) bool {
	_, err := os.Lstat(stoppedMark(n))
	return err == nil
}

// Running reports whether the node's supervisor runs.
func Running(n spec.Node) bool {
	_, ok := supervisor(n)
	return ok
}

// Quiet reports whether neither a supervisor nor a role of the nodes runs.
func Quiet(nodes []spec.Node) bool {
	for _, n := range nodes {
		if _, runs := node.SupervisorFile(n).Read(); runs {
			return false // the usual case, without a look at every process
		}
	}
	for _, n := range nodes {
		if len(roots(n)) > 0 {
			return false
		}
	}
	return true
}

func supervisor(n spec.Node) (process.ID, bool) {
	return process.Job{PID: node.SupervisorFile(n), Args: node.SupervisorArgs(n.Paths.Dir)}.Running()
}

func (s State) net(member string) string {
	if s.Ground != Isolated {
		return ""
	}
	return filepath.Join(s.Run, "net", member)
}

func (s State) keeperFile() process.File { return process.File(filepath.Join(s.Run, "keeper.pid")) }

// KeeperArgs are the arguments that start the keeper of the playground in dir.
func KeeperArgs(dir string) []string { return []string{"playground", "keep", "--dir", dir} }

func (s State) keeper() (process.ID, bool) {
	return process.Job{PID: s.keeperFile(), Args: KeeperArgs(s.Dir)}.Running()
}
