package playground

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"howdah/node"
	"howdah/node/process"
	"howdah/nodefile"
	"howdah/problem"
)

// Who is at the other end of a wire.
const (
	All   = "all"   // everybody
	Doors = "doors" // this machine and whoever connects through its 127.x addresses
)

// WholeNode is frozen as a virtual machine is paused.
const WholeNode = "node"

// Faults are what is laid on the playground just now. They are in the run
// directory, so that they end with the machine as their effects do.
type Faults struct {
	Number  int64          `json:"number"` // of changes: the keeper says which one it has carried out
	Members map[string]Ill `json:"members"`
}

// Ill is what ails one member.
type Ill struct {
	Frozen  []string `json:"frozen,omitempty"`   // roles, "postgres" or "node"
	Held    bool     `json:"held,omitempty"`     // PostgreSQL stood already when the node was frozen, and is not ours to thaw
	NotTo   []string `json:"not_to,omitempty"`   // who hears nothing from it
	NotFrom []string `json:"not_from,omitempty"` // whom it hears nothing from
	Slow    Slow     `json:"slow,omitzero"`
}

// Slow is what a bad network does to every frame, in each direction.
type Slow struct {
	Delay time.Duration `json:"delay,omitempty"`
	Rate  int64         `json:"rate,omitempty"` // bytes a second; 0: as fast as it goes
	Loss  float64       `json:"loss,omitempty"` // of all frames, from 0 to 1
}

func (i Ill) well() bool {
	return len(i.Frozen) == 0 && !i.Network()
}

// Network reports whether the member's network is ill.
func (i Ill) Network() bool { return len(i.NotTo) > 0 || len(i.NotFrom) > 0 || i.Slow != (Slow{}) }

// String tells all that ails the member.
func (i Ill) String() string {
	var says []string
	if slices.Contains(i.Frozen, WholeNode) {
		says = append(says, "frozen")
	} else if len(i.Frozen) > 0 {
		says = append(says, strings.Join(i.Frozen, " and ")+" frozen")
	}
	if slices.Equal(i.NotTo, i.NotFrom) && len(i.NotTo) > 0 {
		says = append(says, "cut off from "+strings.Join(i.NotTo, ", "))
	} else {
		if len(i.NotTo) > 0 {
			says = append(says, "what it sends to "+strings.Join(i.NotTo, ", ")+" is lost")
		}
		if len(i.NotFrom) > 0 {
			says = append(says, "what "+strings.Join(i.NotFrom, ", ")+" sends to it is lost")
		}
	}
	if i.Slow != (Slow{}) {
		says = append(says, "slow network: "+i.Slow.String())
	}
	return strings.Join(says, "; ")
}

// String tells how slow.
func (s Slow) String() string {
	var says []string
	if s.Delay > 0 {
		says = append(says, "each frame "+s.Delay.String()+" late")
	}
	if s.Rate > 0 {
		says = append(says, strconv.FormatFloat(float64(s.Rate)*8/1000, 'f', -1, 64)+" kbit a second")
	}
	if s.Loss > 0 {
		says = append(says, strconv.FormatFloat(s.Loss*100, 'f', -1, 64)+"% of frames lost")
	}
	return strings.Join(says, ", ") + ", each way"
}

func (s State) faultsFile() string { return filepath.Join(s.Run, "faults.json") }
func (s State) laidFile() string   { return filepath.Join(s.Run, "faults.laid") }

// recorded reads the faults as they were written down.
func (s State) recorded() (Faults, error) {
	f := Faults{Members: map[string]Ill{}}
	b, err := os.ReadFile(s.faultsFile())
	if errors.Is(err, os.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return f, fmt.Errorf("%s: %w", s.faultsFile(), err)
	}
	if f.Members == nil {
		f.Members = map[string]Ill{}
	}
	return f, nil
}

// Faults are what is laid now. A process that was frozen and goes on, because
// it was killed and started again or because its agent thawed it, ails no more.
func (s State) Faults() (Faults, error) {
	f, err := s.recorded()
	if err != nil {
		return f, err
	}
	for _, name := range slices.Sorted(maps.Keys(f.Members)) {
		ill := f.Members[name]
		n, err := s.Find(name)
		if err != nil {
			delete(f.Members, name) // a member of an inventory that is gone
			continue
		}
		ill.Frozen = slices.DeleteFunc(slices.Clone(ill.Frozen), func(role string) bool { return !stands(n, role) })
		if ill.well() {
			delete(f.Members, name)
		} else {
			f.Members[name] = ill
		}
	}
	return f, nil
}

// lay changes what ails members, and returns when it does. change hears of each
// one and says how it ails from now on.
func (s State) lay(ctx context.Context, members []string, change func(member string, ill Ill) (Ill, error)) error {
	unlock, err := s.lockFaults(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	f, err := s.Faults()
	if err != nil {
		return err
	}
	before, err := s.recorded()
	if err != nil {
		return err
	}
	for _, m := range members {
		ill, err := change(m, f.Members[m])
		if err != nil {
			return err
		}
		if ill.well() {
			delete(f.Members, m)
		} else {
			f.Members[m] = ill
		}
	}
	if maps.EqualFunc(f.Members, before.Members, func(a, b Ill) bool { return a.equal(b) }) {
		return nil
	}
	f.Number++
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if err := nodefile.WriteFile(s.faultsFile(), append(b, '\n'), 0o644, -1, -1); err != nil {
		return err
	}
	return s.carriedOut(ctx, f.Number)
}

func (i Ill) equal(o Ill) bool {
	return slices.Equal(i.Frozen, o.Frozen) && i.Held == o.Held && slices.Equal(i.NotTo, o.NotTo) &&
		slices.Equal(i.NotFrom, o.NotFrom) && i.Slow == o.Slow
}

// lockFaults keeps two people from laying faults at once.
func (s State) lockFaults(ctx context.Context) (unlock func(), err error) {
	var f *os.File
	wait := poll(ctx, func() bool {
		f, err = node.Lock(filepath.Join(s.Run, "faults.lock"))
		return !errors.Is(err, node.ErrLocked)
	})
	if err := errors.Join(wait, err); err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil
}

// laid is what the keeper says of a change to the network.
type laid struct {
	Number int64  `json:"number"`
	Error  string `json:"error,omitempty"`
}

// carriedOut waits until the keeper has done a change. Where no keeper runs,
// the next one does it when it starts.
func (s State) carriedOut(ctx context.Context, number int64) error {
	keeper, ok := s.keeper()
	if s.Ground != Isolated || !ok {
		return nil
	}
	if err := keeper.Signal(unix.SIGHUP); err != nil && !errors.Is(err, process.ErrGone) {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errors.New("the playground's keeper did not answer"))
	defer cancel()
	var l laid
	err := poll(ctx, func() bool {
		b, err := os.ReadFile(s.laidFile())
		return err == nil && json.Unmarshal(b, &l) == nil && l.Number >= number
	})
	switch {
	case err != nil:
		return err
	case l.Error != "":
		return errors.New(l.Error)
	}
	return nil
}

// Cut loses what members send to the peers notTo, and what the peers notFrom
// send to them. Laid again it changes nothing; it adds to what is cut already.
func (s State) Cut(ctx context.Context, members, notTo, notFrom []string) error {
	if err := s.Cuttable("cut the network of " + strings.Join(members, ", ")); err != nil {
		return err
	}
	return s.lay(ctx, members, func(m string, ill Ill) (Ill, error) {
		for _, p := range slices.Concat(notTo, notFrom) {
			if p == m {
				return ill, &problem.Error{
					Code: "fault-peer", What: "cannot cut " + m + " off from itself", Why: "a node reaches itself without a network",
					Do: "name another member, or leave it out to cut it off from all",
				}
			}
			if _, err := s.Find(p); err != nil && p != All && p != Doors {
				return ill, err
			}
		}
		ill.NotTo, ill.NotFrom = peers(ill.NotTo, notTo), peers(ill.NotFrom, notFrom)
		return ill, nil
	})
}

// peers joins two lists of peers; whoever is all needs no other name.
func peers(a, b []string) []string {
	all := slices.Concat(a, b)
	if slices.Contains(all, All) {
		return []string{All}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Slow makes the members' network slow, as how says and not more.
func (s State) Slow(ctx context.Context, members []string, how Slow) error {
	if err := s.Cuttable("slow the network of " + strings.Join(members, ", ")); err != nil {
		return err
	}
	return s.lay(ctx, members, func(_ string, ill Ill) (Ill, error) {
		ill.Slow = how
		return ill, nil
	})
}

// Heal takes all that Cut and Slow laid off the members.
func (s State) Heal(ctx context.Context, members []string) error {
	return s.lay(ctx, members, func(_ string, ill Ill) (Ill, error) {
		return Ill{Frozen: ill.Frozen, Held: ill.Held}, nil
	})
}

// Cuttable refuses a fault of the network where there is none to break.
func (s State) Cuttable(what string) error {
	if s.Ground == Isolated {
		if _, ok := s.keeper(); !ok {
			return &problem.Error{
				Code: "keeper-missing", What: "cannot " + what, Why: "the playground's keeper does not run",
				Do: "run `howdah up`",
			}
		}
		return nil
	}
	why := "on ground loopback all traffic comes from one address and passes no wire"
	if s.Reason != "" {
		why += "; the isolated ground can not be made here: " + s.Reason
	}
	return &problem.Error{
		Code: "ground-network", What: "cannot " + what, Why: why,
		Do: "as root, `howdah up --ground isolated --dir ANOTHER`; on this ground `howdah fault freeze` and the kill verbs work",
	}
}

// calm takes every fault off the playground, whatever laid it.
func (s State) calm(ctx context.Context) error {
	f, err := s.Faults()
	if err != nil {
		// Nothing can be learnt from a broken record: what it may have stopped goes on.
		f = Faults{Members: map[string]Ill{}}
		if err := errors.Join(os.Remove(s.faultsFile()), os.RemoveAll(s.laidFile())); err != nil {
			return err
		}
	}
	members := slices.Sorted(maps.Keys(f.Members))
	if len(members) == 0 {
		return nil
	}
	return errors.Join(s.Thaw(ctx, members, ""), s.Heal(ctx, members))
}
