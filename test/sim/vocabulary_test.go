package sim

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"howdah/ha"
)

// unreached are the notes that no run comes to, and why. Each stands in a table
// of package ha (TestUnreached, TestOutside, TestBallot, TestDrain), where it is brought about by hand.
var unreached = map[string]string{
	"patroni=%s":             "every member is ours",
	"source=%s(silent)":      "nobody replicates from another replica",
	"copy=base":              "a copy out of a repository must have worked, and be put aside before it streams",
	"sync=unreadable":        "nobody scribbles over /sync",
	"pledges=unable(%s)":     "every voter is ours",
	"fetch=%s":               "the most advanced voter must die between its pledge and its turn",
	"pledge=no(%s)":          "a voter must be copied anew while its leader is lost",
	"fetch=unable":           "a matter of one moment between two deaths",
	"drain=failed(%s)":       "nobody sets howdah.undrained",
	"server=stopping":        "the end of a shutdown is waited for as work, or made a fast one; what is left is a recovery that a dead agent left behind",
	"data=%s server=%s":      "nothing runs on the data of a member before there is a cluster: what its initdb runs is work, which is waited for",
	"handover=refused":       "a candidate takes its offer, or dies; the offer is closed meanwhile most seldom",
	"release=refused":        "no remedy gives the key up while a server runs; it is the last bolt of law 5",
	"vip=held":               "nobody has a virtual address",
	"vip=missing":            "nobody has a virtual address",
	"right=lost":             "a key is taken with a lease that was confirmed just before, so a promotion is longer than it most seldom",
	"system=unknown":         "the model's control file can always be read once initdb has ended",
	"disk=last":              "file systems of the model are full or not",
	"disk=last(%s has room)": "the same",
	"candidate=unlisted":     "who joins is listed within a moment, and the leader must be lost in it",
	"release=asked":          "a leader must find cause to start its server in the moment between asking for a release and the answer",
	"offer=stale":            "an offer is seen to be withdrawn before the server starts; only a person who starts it past the agent can leave one",
}

// notWatched are those of ha/watched.go, which TestWatchdogs demands.
var notWatched = []string{"watchdog=armed", "watchdog=unarmed", "watchdog=missing"}

// notRestored are the notes and actions of ha/restore.go and of what it leaves
// behind: clusters are brought back only in lives of their own (TestRestores). All
// stand in ha/restore_test.go.
var notRestored = []string{
	"restore=waits", "restore=stale", "restore=asked", "restore=turned", "restore=unreadable", "restore=undone",
	"candidate=no(before the restore: %d<%d)", "Revert", "Install",
}

// notFollowing are those of ha/upstream.go: only clusters that follow another one come
// to them (TestStandbyClusters). All stand in ha/upstream_test.go.
var notFollowing = []string{
	"cluster=standby", "cluster=unknown", "config=unknown", "upstream=unknown", "data=primary", "copy=needed",
	"promotion=asked", "promotion=paused", "Lift",
}

// notSwapped are those of ha/lower.go (TestSwaps). All stand in ha/lower_test.go.
var notSwapped = []string{
	"demotion=asked", "demotion=refused", "demotion=stop", "demotion=withdrawn", "demotion=%s", "demotion=awaited", "demotion=late",
	"Identify", "Subject",
}

// notWiped are those of ha/rebuild.go: only a store that loses everything leads to
// them (TestWipes). All stand in ha/rebuild_test.go.
var notWiped = []string{
	"store=anew", "heard=all", "voters=%d", "right=live", "sync=unsure", "later=%s(%d)", "awaits=rebuild",
}

// notStrayed is that of ha/stray.go (TestStrays).
var notStrayed = []string{"leader=stray(%s)"}

// notKept are those of ha/slots.go: no model has permanent slots. All stand in
// ha/slots_test.go, and servers that have them in test/e2e.
var notKept = []string{
	"slots=logical", "slots=behind", "slots=lacking", "slots=await(%s)", "slots=unsafe(%s)", "Logical", "Advance", "Adopt",
}

// A vocabulary is all that a decision can say and ask for: the formats of its
// notes and the types of its actions, read from the source of package ha, so
// that a branch which is added there is demanded of the simulation at once.
type vocabulary struct {
	notes   map[string]*regexp.Regexp // nil: it has no values
	actions map[string]bool
	// synchronous are those that only a cluster in synchronous mode comes to.
	synchronous map[string]bool
}

// inSynchronous are the files of package ha that are about synchronous mode, and
// its actions.
var inSynchronous = []string{"sync.go", "pledge.go", "suspect.go", "doors.go", "Synchronize", "Prove", "Fence", "Whole", "Shut", "Admit"}

func readVocabulary(t *testing.T) vocabulary {
	t.Helper()
	v := vocabulary{notes: map[string]*regexp.Regexp{}, actions: map[string]bool{}, synchronous: map[string]bool{}}
	elsewhere := map[string]bool{}
	files, err := filepath.Glob("../../ha/*.go")
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "note" {
					format, ok := literal(n.Args[0])
					if !ok {
						t.Errorf("%s: a note whose format is no literal", set.Position(n.Pos()))
					}
					v.notes[format] = pattern(format)
					if slices.Contains(inSynchronous, filepath.Base(name)) {
						v.synchronous[format] = true
					} else {
						elsewhere[format] = true
					}
				}
			case *ast.FuncDecl:
				if n.Name.Name == "Lane" && n.Recv != nil {
					action := n.Recv.List[0].Type.(*ast.Ident).Name
					v.actions[action] = true
					if slices.Contains(inSynchronous, action) {
						v.synchronous[action] = true
					}
				}
			}
			return true
		})
	}
	for note := range elsewhere {
		delete(v.synchronous, note)
	}
	if len(v.notes) < 50 || len(v.actions) < 20 {
		t.Fatalf("package ha has %d notes and %d actions: it is not read as it is written", len(v.notes), len(v.actions))
	}
	return v
}

// literal is a format as it stands in the source, perhaps with a value behind it.
func literal(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil
	case *ast.BinaryExpr:
		s, ok := literal(e.X)
		return s + "%s", ok && e.Op == token.ADD
	}
	return "", false
}

var verbs = regexp.MustCompile(`%[sd%]`)

// pattern matches what a format prints.
func pattern(format string) *regexp.Regexp {
	if !strings.Contains(format, "%") {
		return nil
	}
	values := map[string]string{"%d": `-?\d+`, "%s": `.*`, "%%": `%`}
	return regexp.MustCompile("^" + verbs.ReplaceAllStringFunc(regexp.QuoteMeta(format), func(verb string) string { return values[verb] }) + "$")
}

// said counts what one cluster's decisions said and asked for, in the words of the source.
type said struct {
	vocabulary
	count map[string]int
	known map[string]string // format of a note that was heard before
}

func (v vocabulary) listen() *said { return &said{v, map[string]int{}, map[string]string{}} }

func (s *said) hear(d *ha.Decision) {
	for _, note := range d.Trail {
		s.count[s.format(note)]++
	}
	for _, a := range d.Actions {
		s.count[reflect.TypeOf(a).Name()]++
	}
}

// format is the format that a note was made from: of several that fit, the one
// that leaves least open.
func (s *said) format(note string) string {
	if _, plain := s.notes[note]; plain {
		return note
	}
	if f, ok := s.known[note]; ok {
		return f
	}
	best := ""
	for f, p := range s.notes {
		if p != nil && p.MatchString(note) && (len(f) > len(best) || len(f) == len(best) && f < best) {
			best = f
		}
	}
	if len(s.known) < 10_000 { // positions are without number
		s.known[note] = best
	}
	return best
}

// demand complains of every branch that no decision came to, of those that are
// about synchronous mode or of the others, and of every excuse for one that is gone.
func (v vocabulary) demand(synchronous bool, complain func(string, ...any), heard *said) {
	count := heard.count
	lives := slices.Concat(notRestored, notFollowing, notSwapped, notWiped, notStrayed, notKept, notWatched, notHung) // of their own
	for _, note := range slices.Sorted(maps.Keys(v.notes)) {
		if _, excused := unreached[note]; count[note] == 0 && !excused && !slices.Contains(lives, note) && v.synchronous[note] == synchronous {
			complain("no decision said %q", note)
		}
	}
	for _, action := range slices.Sorted(maps.Keys(v.actions)) {
		if count[action] == 0 && !slices.Contains(lives, action) && v.synchronous[action] == synchronous {
			complain("no decision asked for %s", action)
		}
	}
	for _, said := range lives {
		if _, there := v.notes[said]; !there && !v.actions[said] {
			complain("%q is excused, and nothing in package ha says it", said)
		}
	}
	for note := range unreached {
		if _, there := v.notes[note]; !there {
			complain("%q is excused, and nothing in package ha says it", note)
		}
	}
}
