package sim

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"howdah/ha/agent"
	"howdah/spec"
)

var (
	courseName = flag.String("course", "", "a course in TestFailPoint")
	courseAt   = flag.Int("at", 0, "the write in it after which an agent is killed")
)

// A course is something that a cluster goes through, with an agent killed at one of
// its fail points.
type course struct {
	name     string
	alone    bool // a leader that loses the store asks nobody for his word
	founding bool // it begins before there is a cluster
	do       func(w *World)
	long     time.Duration // until everything is mended
}

// other is a member that does not lead.
func (w *World) other() *node {
	return w.nodes[slices.IndexFunc(w.nodes, func(n *node) bool { return n != w.leader() })]
}

var courses = []course{
	{name: "founding", founding: true, do: func(*World) {}, long: time.Second},
	{name: "handover after a crash", do: func(w *World) { w.killPostgres(w.leader(), false) }, long: 10 * time.Second},
	{name: "a crash that leaves a backend", do: func(w *World) { w.killPostgres(w.leader(), true) }, long: 10 * time.Second},
	{name: "switchover", do: func(w *World) { w.switchover("") }, long: 15 * time.Second},
	{name: "an agent that leaves", do: func(w *World) {
		n := w.leader()
		n.stopAgent()
		w.after(10*time.Second, n.start)
	}, long: 15 * time.Second},
	{name: "election", do: func(w *World) {
		n := w.leader()
		n.powerOff()
		w.after(12*time.Second, n.powerOn)
	}, long: 20 * time.Second},
	{name: "demotion", do: func(w *World) {
		n := w.leader()
		n.cutPeers = true // what it writes now nobody else gets
		n.server.lostAll()
		n.absent()
		w.after(time.Second, func() { n.cutStore = true })
		w.after(14*time.Second, func() { w.mend(n) })
	}, long: 20 * time.Second},
	{name: "no store", alone: true, do: func(w *World) {
		w.store.setOutage(true)
		w.after(8*time.Second, func() { w.store.setOutage(false) })
	}, long: 12 * time.Second},
	{name: "no store, by the word of the others", do: func(w *World) {
		w.store.setOutage(true)
		w.after(12*time.Second, func() { w.store.setOutage(false) })
	}, long: 16 * time.Second},
	{name: "a lost disk", do: func(w *World) {
		n := w.other()
		n.powerOff()
		n.server.empty()
		n.powerOn()
	}, long: 15 * time.Second},
	{name: "reinit", do: func(w *World) { w.reinit(w.other()) }, long: 15 * time.Second},
	{name: "restart", do: func(w *World) { w.restart(w.leader()) }, long: 10 * time.Second},
	{name: "a server that does not start", do: func(w *World) {
		n := w.leader()
		n.cutPeers = true // nobody can be handed the key
		n.server.lostAll()
		n.absent()
		w.after(time.Second, func() {
			n.server.spoilt = w.now + 15*time.Second
			w.killPostgres(n, false)
		})
		w.after(20*time.Second, func() { w.mend(n) })
	}, long: 30 * time.Second},
	{name: "a server and its agent at once", do: func(w *World) {
		n := w.leader()
		n.crashAgent()
		w.killPostgres(n, false)
	}, long: 10 * time.Second},
	{name: "all machines at once", do: func(w *World) {
		for i, n := range w.nodes {
			n.powerOff()
			w.after(time.Duration(7-3*i)*time.Second, n.powerOn)
		}
	}, long: 20 * time.Second},
	{name: "another configuration", do: func(w *World) { w.configure() }, long: 3 * time.Second},
	{name: "a member that is away for long", do: func(w *World) {
		n := w.other()
		n.powerOff()
		w.after(20*time.Second, n.powerOn)
	}, long: 25 * time.Second},
	{name: "a frozen server", do: func(w *World) { w.leader().server.hold() }, long: 40 * time.Second},
	{name: "another mode", do: func(w *World) { w.synchronous() }, long: 5 * time.Second},
}

// live lives through the course; hit is told every fail point.
func (c course) live(o Options, hit fatal) *World {
	t := spec.Safe()
	o.Seed, o.Nodes, o.Timers, o.Calm = 4, 3, &t, true // a seed with gateways
	w := New(o)
	w.alone = c.alone
	w.rates.commit = 100 * time.Millisecond
	if c.founding {
		w.fatal = hit
	}
	for _, n := range w.nodes {
		w.after(w.draw(0, 3*time.Second), n.powerOn)
	}
	w.openGateways()
	w.awaitWhole("founding", 2*time.Minute)
	if o.Quorum && w.Failed == nil {
		w.synchronous()
		w.awaitWhole("synchronous", 2*time.Minute)
	}
	if w.Failed != nil {
		return w
	}
	w.client.start()
	w.run(w.now + 2*time.Second)
	w.fatal = hit
	w.laws.excused = true
	c.do(w)
	w.run(w.now + c.long)
	w.heal()
	w.client.stop()
	w.awaitWhole("healed", w.patience())
	return w
}

// unkilled are the actions at which no agent is killed, and why.
var unkilled = map[string]string{
	"Install":  "clusters are brought back to a moment in lives of their own (TestRestores)",
	"Revert":   "the same",
	"Lift":     "standby clusters live lives of their own (TestStandbyClusters)",
	"Subject":  "clusters change places in lives of their own (TestSwaps)",
	"Identify": "the same",
	"Logical":  "no model has permanent slots",
	"Advance":  "the same",
	"Adopt":    "the same",
}

// moments are the fail points of an action, by its lane.
var moments = map[string][]string{
	"Lock": {"sent", "applied"}, "Note": {"sent", "applied"}, "Server": {"begun", "ended"}, "Now": {"done"},
	"Aside": {"committed"}, "Peers": {"sent"},
}

// writes are the methods by which an agent writes, with the lanes that go by them;
// those that only look have none.
var writes = map[string]string{
	"Page": "Page", "Ask": "Lock Note", "Work": "Server", "Prove": "Aside", "Move": "Aside", "Appeal": "Peers", "AtOnce": "Now",
	"GiveUp": "", "Boot": "", "Wall": "", "Store": "", "Server": "", "Heard": "",
}

// An agent may be killed right after anything that it has written, and the next one
// ends right: in promotion, demotion, rewind, copy, handover and whatever else a
// cluster goes through. By night
// at every single write, by day at the first of each kind in each course.
func TestFailPoints(t *testing.T) {
	lanes := readLanes(t)
	type place struct {
		course
		quorum bool
		at     int
		point  string
	}
	var places []place
	met := map[string]int{}
	for _, c := range courses {
		for _, quorum := range []bool{false, true} {
			if quorum && c.name == "another mode" {
				continue
			}
			var all []string
			w := c.live(Options{Quorum: quorum}, func(_ *node, point string) bool {
				all = append(all, point)
				return false
			})
			if w.Failed != nil {
				t.Errorf("%s, quorum %v, nobody killed: %v", c.name, quorum, w.Failed)
				continue
			}
			for i, point := range all {
				if os.Getenv("NIGHTLY") != "" || slices.Index(all, point) == i {
					places = append(places, place{c, quorum, i, point})
					met[point]++
				}
			}
		}
	}

	// None is forgotten: every action of package ha, at each of its moments, and
	// every way by which an agent writes.
	points := map[string]bool{"Page": met["Page"] > 0, "Agree/kept": met["Agree/kept"] > 0}
	for action, lane := range lanes {
		for _, moment := range moments[lane] {
			points[action+"/"+moment] = false
			for p := range met {
				what, when, _ := strings.Cut(p, "/"+moment)
				if strings.HasSuffix(p, "/"+moment) && when == "" && (what == action || strings.Contains(what, action+" ")) {
					points[action+"/"+moment] = true
				}
			}
		}
		if len(moments[lane]) == 0 {
			t.Errorf("%s goes by lane %s, of which no fail point is known", action, lane)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(points)) {
		action, _, _ := strings.Cut(p, "/")
		if why, excused := unkilled[action]; points[p] == excused {
			t.Errorf("fail point %s: met %v, excused %v (%s)", p, points[p], excused, why)
		}
	}
	hands := reflect.TypeFor[agent.Hands]()
	for i := range hands.NumMethod() {
		if _, known := writes[hands.Method(i).Name]; !known {
			t.Errorf("nobody says whether %s writes: enter it in writes, and call wrote after it", hands.Method(i).Name)
		}
	}

	var next atomic.Int64
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(places); i = int(next.Add(1)) - 1 {
				p := places[i]
				w := p.live(Options{Quorum: p.quorum}, killAt(p.at))
				if w.Failed != nil {
					t.Errorf("%s, quorum %v, killed after write %d (%s): %v", p.name, p.quorum, p.at, p.point, w.Failed)
				}
			}
		})
	}
	wait.Wait()
	t.Logf("%d fail points of %d kinds in %d courses", len(places), len(met), len(courses))
}

// Killing an agent there finds what it did not write.
func TestFailPointsFind(t *testing.T) {
	i := slices.IndexFunc(courses, func(c course) bool { return c.name == "election" })
	done := false
	w := courses[i].live(Options{Quorum: true, Mutant: &Mutant{Undurable: true}}, func(_ *node, point string) bool {
		now := !done && strings.Contains(point, "Put howdah/pledges") && strings.HasSuffix(point, "/applied")
		done = done || now
		return now
	})
	if w.Failed == nil || w.Failed.Law != "law 4" {
		t.Errorf("a refusal that is gone with the agent that made it: %v", w.Failed)
	}
}

// killAt kills an agent after the write of that number.
func killAt(at int) fatal {
	count := -1
	return func(*node, string) bool {
		count++
		return count == at
	}
}

// readLanes are the actions of package ha and the lanes that they go by, from its source.
func readLanes(t *testing.T) map[string]string {
	t.Helper()
	lanes := map[string]string{}
	files, err := filepath.Glob("../../ha/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Name.Name != "Lane" || f.Recv == nil {
				continue
			}
			r, ok := f.Body.List[0].(*ast.ReturnStmt)
			if !ok {
				t.Fatalf("the lane of %s is not read as it is written", name)
			}
			lanes[f.Recv.List[0].Type.(*ast.Ident).Name] = r.Results[0].(*ast.Ident).Name
		}
	}
	if len(lanes) < 20 {
		t.Fatalf("package ha has %d actions: it is not read as it is written", len(lanes))
	}
	return lanes
}

// TestFailPoint replays one of them: -course, -at, -quorum.
func TestFailPoint(t *testing.T) {
	i := slices.IndexFunc(courses, func(c course) bool { return c.name == *courseName })
	if i < 0 {
		t.Skip("-course names none")
	}
	w := courses[i].live(Options{Quorum: *promised, Verbose: true}, killAt(*courseAt))
	for _, l := range w.Log {
		t.Log(l)
	}
	if w.Failed != nil {
		t.Fatal(w.Failed)
	}
}
