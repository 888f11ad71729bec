package howdah

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "print the map into ARCHITECTURE.md")

// A floor is a kind of package. Imports point down.
type floor struct {
	name     string
	packages string // those that stand on it, whether they are built yet or not
	rule     string // what they may import, in words; may is the same in Go
}

// floors is the map of the house, from the ground up. A new package gets a
// place here; an import that its floor does not allow gets an arrow below.
var floors = []floor{
	{
		"words", "cluster exposition latest logkey pg pgwire problem scram secret",
		"the standard library without I/O, and words",
	},
	{
		"brains", "access/admin access/hba access/login access/names access/pool access/route access/userlist access/vip backup/repo backup/retain backup/schedule ha ha/quorum machine/doctor machine/install observe/alert observe/collector observe/dashboard observe/host observe/logbook observe/notice observe/target postgres/conf spec spec/declare spec/patroni spec/pigsty spec/place spec/plan spec/vipmanager",
		"words, brains of their wing, YAML and JMESPath; no clock, randomness, files, sockets, logging, goroutines",
	},
	{
		"tools", "lease lifecycle netport node/process nodefile observe/silence pki postgres/kept listen",
		"words, brains and tools: small hands for whoever stands above",
	},
	{
		"hands", "access/vip/hold backup/repo/mem backup/repo/peer backup/repo/posix backup/repo/s3 backup/server backup/stanza dcs dcs/embed dcs/etcd dcs/mem ha/watchdog machine/ssh postgres postgres/probe",
		"words, brains, tools, and hands of their own family",
	},
	{
		"loops", "access/dns access/gateway access/gateway/admin access/pooler backup backup/archive backup/drill backup/keep backup/restore backup/take backup/verify ha/agent observe/activity observe/collect observe/logs observe/probe observe/push observe/store spec/apply",
		"everything below that belongs to no other wing",
	},
	{
		"house", "control machine node playground",
		"everything below",
	},
	{
		"doors", "api cli cli/patronictl cli/pgbackrest cli/pgbouncer observe/console observe/loki",
		"`control`, words, brains",
	},
	{
		"main", "cmd/howdah",
		"anything; nobody imports it",
	},
	{
		"tests", "backup/repo/repotest dcs/dcstest dcs/embed/embedtest postgres/postgrestest test/chaos test/compat test/drivers test/e2e test/failover test/interop test/linted test/outside test/peers/probe test/scenario test/sim test/testpg test/tests3 test/testssh test/volume",
		"anything but main; only tests import them",
	},
}

// may says whether the package from, standing on floor name, may import to.
func may(name, from, to string) bool {
	sameFamily := family(from) == family(to)
	foreign := wing(to) != "" && wing(to) != wing(from)
	switch name {
	case "words":
		return on(to, "words")
	case "brains":
		return on(to, "words", "brains") && !foreign
	case "tools":
		return on(to, "words", "brains", "tools") && !foreign
	case "hands":
		return on(to, "words", "brains", "tools") && !foreign || on(to, "hands") && sameFamily
	case "loops":
		return on(to, "words", "brains", "tools", "hands", "loops") && !foreign
	case "house":
		return on(to, "words", "brains", "tools", "hands", "loops", "house")
	case "doors":
		return to == "control" || on(to, "words", "brains") || on(to, "doors") && sameFamily
	case "main":
		return !on(to, "tests")
	}
	return !on(to, "main")
}

// arrows are the imports beyond the floors, each with its reason.
var arrows = []struct{ from, to, why string }{
	{"access/route", "net", "only JoinHostPort, which touches nothing"},
	{"pg", "net", "only JoinHostPort, which touches nothing"},
	{"secret", "log/slog", "only for the interface that masks a secret in a log line"},
	{"scram", "golang.org/x/text/unicode/bidi", "a password is normalised as PostgreSQL does it"},
	{"scram", "golang.org/x/text/unicode/norm", "a password is normalised as PostgreSQL does it"},
	{"backup/repo", "github.com/klauspost/compress/gzip", "objects are compressed; from bytes to bytes"},
	{"backup/repo", "github.com/klauspost/compress/zlib", "objects are compressed; from bytes to bytes"},
	{"backup/repo", "github.com/klauspost/compress/zstd", "objects are compressed; from bytes to bytes"},
	{"backup/repo", "github.com/pierrec/lz4/v4", "objects are compressed; from bytes to bytes"},
	{"backup/repo", "github.com/zeebo/xxh3", "blocks are summed up; from bytes to bytes"},
	{"cli/pgbackrest", "backup", "the incumbent's commands are about a data directory and repositories, where there need be no cluster of ours"},
	{"postgres", "ha/quorum", "a voter's fence is made here, and its order is what a pledge rests on"},
	{"dcs/embed", "netport", "a member whose port is taken says by whom"},
	{"dcs/embed", "pki", "a member asks the others how they are, with its own certificate"},
	{"dcs/etcd", "pki", "a node's store is opened with the node's certificate"},
}

// wings never import each other; whatever stands outside them is everyone's.
var wings = []string{"ha", "access", "backup", "observe"}

// deaf is what words and brains must not import: they are told, they do not look.
var deaf = []string{
	"crypto/rand", "io/ioutil", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http", "os", "os/exec",
	"os/signal", "os/user", "path/filepath", "runtime/debug", "syscall", "testing",
}

func TestLayout(t *testing.T) {
	used := map[int]bool{}
	for _, p := range tree(t) {
		if p.path == "" {
			continue // this package, which has only tests
		}
		f, ok := floorOf(p.path)
		if !ok {
			t.Errorf("package %s: say where it stands in layout_test.go", p.path)
			continue
		}
		for _, to := range p.imports {
			if i := arrow(p.path, to); i >= 0 {
				used[i] = true
				continue
			}
			if problem := forbidden(f, p.path, to); problem != "" {
				t.Errorf("%s imports %s: %s; go through a lower floor, or list the arrow with its reason in layout_test.go", p.path, to, problem)
			}
		}
	}
	for i, a := range arrows {
		if !used[i] {
			t.Errorf("arrow %s → %s is listed, but nobody goes that way: remove it", a.from, a.to)
		}
	}
}

// forbidden says why from, on floor f, may not import to; "" if it may.
func forbidden(f floor, from, to string) string {
	ours, own := strings.CutPrefix(to, module+"/")
	switch {
	case own && !may(f.name, from, ours):
		return fmt.Sprintf("%s may import %s", f.name, f.rule)
	case own || f.name != "words" && f.name != "brains":
		return ""
	case slices.Contains(deaf, to):
		return f.name + " are told about the world, they do not look"
	case !strings.Contains(to, "."):
		return ""
	case f.name == "brains" && (strings.HasPrefix(to, "go.yaml.in/yaml") || strings.HasPrefix(to, "github.com/jmespath-community/go-jmespath")):
		return ""
	}
	return f.name + " stand on the standard library"
}

// TestMap keeps the printed map in ARCHITECTURE.md equal to the tree.
func TestMap(t *testing.T) {
	const file, begin, end = "ARCHITECTURE.md", "<!-- map: printed by go test -run TestMap -update . -->\n", "<!-- end of map -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s lacks the markers %q and %q", file, begin, end)
	}
	want := before + begin + drawMap(tree(t)) + end + after
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("the map in %s is stale: go test -run TestMap -update .", file)
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// drawMap prints the packages that exist, from the doors down.
func drawMap(packages []*pkg) string {
	var b strings.Builder
	b.WriteString("| floor | packages | may import |\n|---|---|---|\n")
	for _, f := range slices.Backward(floors) {
		var here []string
		for _, p := range packages {
			if on(p.path, f.name) {
				here = append(here, p.path)
			}
		}
		if len(here) > 0 {
			fmt.Fprintf(&b, "| %s | `%s` | %s |\n", f.name, strings.Join(here, " "), f.rule)
		}
	}
	b.WriteString("\n")
	for _, a := range arrows {
		fmt.Fprintf(&b, "- beyond the floors: `%s` → `%s`, %s\n", a.from, a.to, a.why)
	}
	return b.String()
}

func floorOf(path string) (floor, bool) {
	for _, f := range floors {
		if slices.Contains(strings.Fields(f.packages), path) {
			return f, true
		}
	}
	return floor{}, false
}

func on(path string, names ...string) bool {
	f, ok := floorOf(path)
	return ok && slices.Contains(names, f.name)
}

func arrow(from, to string) int {
	to = strings.TrimPrefix(to, module+"/")
	for i, a := range arrows {
		if a.from == from && a.to == to {
			return i
		}
	}
	return -1
}

func family(path string) string {
	first, _, _ := strings.Cut(path, "/")
	return first
}

func wing(path string) string {
	if slices.Contains(wings, family(path)) {
		return family(path)
	}
	return ""
}
