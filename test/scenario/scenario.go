// Package scenario runs scripts that read like prose: what happens to a cluster
// above the line, how it ends below.
//
//	# The machine of the primary is lost under load.
//	cluster a b c
//	clients write every 20ms
//	at 10s: kill-node a
//	until settled
//	----
//	leader b or c on timeline 2
//	without a primary at most 7s
//
// A script runs in virtual time, on a model of a cluster (test/sim), from as
// many seeds as the test asks for: its outcome holds for each of them.
package scenario

import (
	"bufio"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/spec"
	"howdah/test/sim"
)

// A Script is what one file says.
type Script struct {
	Members []string
	Pause   time.Duration // between two rows of the clients; 0: nobody writes
	Steps   []Step
	Limit   time.Duration // for settling
	Expect  []string
}

// A Step happens at its time.
type Step struct {
	At   time.Duration
	Verb string
	Node string
}

// Parse reads a script; errors name the line.
func Parse(text string) (Script, error) {
	s := Script{Limit: 2 * time.Minute}
	outcome := false
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "" || line[0] == '#':
		case line == "----":
			outcome = true
		case outcome:
			s.Expect = append(s.Expect, line)
		default:
			if err := s.step(line); err != nil {
				return s, fmt.Errorf("line %d: %s: %w", n, line, err)
			}
		}
	}
	if len(s.Members) == 0 || len(s.Expect) == 0 {
		return s, fmt.Errorf("a cluster and an outcome are needed")
	}
	return s, nil
}

func (s *Script) step(line string) (err error) {
	if names, ok := strings.CutPrefix(line, "cluster "); ok {
		s.Members = strings.Fields(names)
		return nil
	}
	if pause, ok := strings.CutPrefix(line, "clients write every "); ok {
		s.Pause, err = time.ParseDuration(pause)
		return err
	}
	if line == "until settled" {
		return nil
	}
	if limit, ok := strings.CutPrefix(line, "until settled within "); ok {
		s.Limit, err = time.ParseDuration(limit)
		return err
	}
	at, what, ok := strings.Cut(strings.TrimPrefix(line, "at "), ": ")
	if !ok || !strings.HasPrefix(line, "at ") {
		return fmt.Errorf("not a line of a script")
	}
	st := Step{}
	if st.At, err = time.ParseDuration(at); err != nil {
		return err
	}
	if k := len(s.Steps); k > 0 && s.Steps[k-1].At > st.At {
		return fmt.Errorf("before the step above it")
	}
	st.Verb, st.Node, _ = strings.Cut(what, " ")
	st.Node = strings.TrimPrefix(st.Node, "to=")
	s.Steps = append(s.Steps, st)
	return nil
}

// Run lives through the script from a seed and returns what was not as expected.
func (s Script) Run(seed uint64) (*sim.World, error) {
	timers := spec.Safe()
	w := sim.New(sim.Options{Seed: seed, Nodes: len(s.Members), Timers: &timers, Calm: true, Verbose: true})
	if !slices.Equal(w.Names(), s.Members) {
		return w, fmt.Errorf("members are called %v", w.Names())
	}
	if err := w.Found(); err != nil {
		return w, err
	}
	if name, _ := w.Leader(); name != s.Members[0] {
		// Who founds is chance; the script's first member is to lead when it begins.
		if err := w.Do("switchover", s.Members[0]); err != nil {
			return w, err
		}
		if err := w.Run(10 * time.Second); err != nil {
			return w, err
		}
		if err := w.Settle(s.Limit); err != nil {
			return w, err
		}
	}
	_, first := w.Leader()
	w.Stats = sim.Stats{}
	if s.Pause > 0 {
		w.Load(s.Pause)
	}
	var now time.Duration
	for _, st := range s.Steps {
		if err := w.Run(st.At - now); err != nil {
			return w, err
		}
		now = st.At
		if err := w.Do(st.Verb, st.Node); err != nil {
			return w, err
		}
	}
	if err := w.Run(10 * time.Second); err != nil {
		return w, err
	}
	if err := w.Settle(s.Limit); err != nil {
		return w, err
	}
	for _, want := range s.Expect {
		if got := outcome(w, want, int(first)-1); got != "" {
			return w, fmt.Errorf("want %q: %s", want, got)
		}
	}
	return w, nil
}

// outcome says how the world differs from a line of the outcome. Timelines
// count from the one that the script began on.
func outcome(w *sim.World, want string, before int) string {
	f := strings.Fields(want)
	limit := func(i int) time.Duration {
		d, err := time.ParseDuration(f[i])
		if err != nil {
			panic(fmt.Sprintf("outcome %q: %v", want, err))
		}
		return d
	}
	switch {
	case strings.HasPrefix(want, "leader "):
		names, tl, told := strings.Cut(strings.TrimPrefix(want, "leader "), " on timeline ")
		leader, on := w.Leader()
		n, err := strconv.Atoi(tl)
		if !told {
			n, err = int(on)-before, nil
		}
		if err != nil || !slices.Contains(strings.Split(names, " or "), leader) || int(on)-before != n {
			return fmt.Sprintf("%s leads on timeline %d", leader, int(on)-before)
		}
	case strings.HasSuffix(want, " follow"), strings.HasSuffix(want, " follows"):
		for _, name := range strings.Split(strings.TrimSuffix(strings.TrimSuffix(want, "s"), " follow"), " and ") {
			if !slices.Contains(w.Followers(), name) {
				return fmt.Sprintf("%v follow", w.Followers())
			}
		}
	case want == "no row is lost":
		if w.Stats.Lost > 0 {
			return fmt.Sprintf("%d of %d rows are lost", w.Stats.Lost, w.Stats.Acknowledged)
		}
	case strings.HasPrefix(want, "without a primary at most "):
		if w.Stats.LongestWithout > limit(5) {
			return fmt.Sprintf("it was %s", w.Stats.LongestWithout)
		}
	case strings.HasPrefix(want, "without a primary at least "):
		if w.Stats.LongestWithout < limit(5) {
			return fmt.Sprintf("it was %s", w.Stats.LongestWithout)
		}
	case want == "always a primary":
		if w.Stats.LongestWithout > 0 {
			return fmt.Sprintf("there was none for %s", w.Stats.LongestWithout)
		}
	case want == "nobody was frozen":
		if w.Stats.Frozen > 0 {
			return fmt.Sprintf("%d times", w.Stats.Frozen)
		}
	case want == "the primary was frozen, and thawed":
		if w.Stats.Frozen == 0 || w.Stats.Thawed == 0 {
			return fmt.Sprintf("frozen %d times, thawed %d times", w.Stats.Frozen, w.Stats.Thawed)
		}
	case want == "nobody was promoted":
		if w.Stats.Promotions > 0 {
			return fmt.Sprintf("%d promotions", w.Stats.Promotions)
		}
	case want == "nothing was copied anew":
		if w.Stats.Clones > 0 {
			return fmt.Sprintf("%d copies", w.Stats.Clones)
		}
	default:
		return "no outcome reads like this"
	}
	return ""
}
