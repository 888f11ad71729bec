package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"howdah/control"
)

// run carries out one command line of a person without a terminal.
func run(t *testing.T, dir string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e strings.Builder
	code = Run(t.Context(), args, Process{
		In: strings.NewReader(""), Out: &o, Err: &e, Version: Version{Version: "1.2.3"},
		Env: func(name string) string {
			return map[string]string{"HOWDAH_DIR": dir, "HOME": "/home/ann"}[name]
		},
		Roles: Roles{Agent: func(context.Context, string) error { return nil }},
	})
	return code, o.String(), e.String()
}

// house makes a state directory with the nodes of clusters.
func house(t *testing.T, nodes ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, n := range nodes {
		if err := os.MkdirAll(filepath.Join(dir, n), 0o755); err != nil {
			t.Fatal(err)
		}
		cluster, member, _ := strings.Cut(n, "/")
		node := `{"cluster":"` + cluster + `","member":"` + member + `","paths":{"dir":"` + filepath.Join(dir, n) + `"}}`
		if err := os.WriteFile(filepath.Join(dir, n, "node.json"), []byte(node), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestExitCodes(t *testing.T) {
	two := house(t, "demo/demo-1", "shop/shop-1")
	for _, tt := range []struct {
		args string
		want int
		says string // in what it prints
	}{
		{"", Done, "howdah up"},
		{"version", Done, "howdah 1.2.3"},
		{"version --json", Done, `"version": "1.2.3"`},
		{"--help", Done, "Usage:"},
		{"agent --node /nowhere", Done, ""},
		{"lst", Usage, `unknown verb "lst"`},
		{"lst", Usage, "perhaps `howdah list` is meant"},
		{"start", Usage, "perhaps `howdah up` is meant"},
		{"switchovr", Usage, "perhaps `howdah switchover` is meant"},
		{"xyzzy", Usage, "  do:  see `howdah --help`"},
		{"help lst", Usage, "perhaps `howdah list` is meant"},
		{"help fault kill-node", Done, "howdah fault kill-node"},
		{"version x", Usage, "takes no arguments"},
		{"version --json", Done, `"postgres": [`},
		{"list --dir=", Usage, "--dir needs"},
		{"playground kep", Usage, "keep"},
		{"etcd srve", Usage, "perhaps `howdah etcd serve` is meant"},
		{"list --jsn", Usage, "unknown flag: --jsn"},
		{"list --jsn", Usage, "perhaps `howdah list --json` is meant"},
		{"switchover --too x", Usage, "perhaps `howdah switchover --to` is meant"},
		{"list -x", Usage, "unknown shorthand flag"},
		{"list --dir", Usage, "needs an argument"},
		{"list demo extra", Usage, "list takes at most 1 arguments"},
		{"up a b", Usage, "up takes one inventory"},
		{"up demo", NotDone, "[inventory-unreadable]"},
		{"down demo", Usage, "down takes no arguments"},
		{"up --ground moon", NotDone, "[ground-unknown]"},
		{"up --max-loss much", Usage, "give a size"},
		{"up --max-loss -1MB", Usage, "give a size"},
		{"up --max-loss 900000TB", Usage, "more than can be meant"},
		{"up pigsty.yml --max-loss 1MB", Usage, "write max_loss (or pg_rpo) into pigsty.yml"},
		{"up --max-loss 16MB --dry-run", Done, "would make cluster demo"},
		{"fault", Usage, "which one"},
		{"fault kill-everything", Usage, `unknown fault "kill-everything"`},
		{"fault kil-postgres", Usage, "perhaps `howdah fault kill-postgres` is meant"},
		{"fault one-way demo", Usage, "needs a direction"},
		{"fault slow demo", Usage, "how slow"},
		{"fault slow demo --rate 3", Usage, "kbit"},
		{"fault slow demo --rate -3mbit", Usage, "kbit"},
		{"fault slow demo --loss 101%", Usage, "percentage"},
		{"fault slow demo --delay 2m", Usage, "a minute"},
		{"fault thaw demo", NotDone, "[playground-none]"},
		{"demo-faults", NotDone, "[cluster-which]"},
		{"demo-faults demo", NotDone, "[playground-none]"},
		{"failover demo", Usage, "--to MEMBER"},
		{"switchover demo --cancel --to demo-2", Usage, "--cancel takes back"},
		{"switchover demo --at soon", Usage, "is not a time"},
		{"why demo --failover 0", Usage, "count from 1"},
		{"why demo --failover x", Usage, `--failover "x" is not a whole number`},
		{"why demo --failover x --json", Usage, `"code": "usage"`},
		{"backup demo --type whole", Usage, "--type whole: say one of full, diff, incr"},
		{"down --yes=perhaps", Usage, `--yes "perhaps" is not true or false`},
		{"psql demo --json", Usage, "--print-url"},
		{"psql demo shop third", Usage, "one cluster"},
		{"list demo-1", NotDone, "demo-1 is a member of cluster demo"},
		{"switchover demo-1", NotDone, "name the cluster, demo"},
		{"agent", Usage, "--node DIR"},
		{"agent demo", Usage, "takes no arguments"},
		{"etcd", Usage, "serve"},
		{"install", Usage, "install needs one inventory"},
		{"install x.yml --init upstart", Usage, "say systemd or none"},
		{"install x.yml --wait 0s", Usage, "no time to wait"},
		{"install nowhere.yml", NotDone, "[inventory-unreadable]"},
		{"certs", NotDone, "[keys-missing]"},
		{"certs now", Usage, "unknown verb"},
		{"certs renew demo", Usage, "takes no arguments"},
		{"certs rotate a b", Usage, "takes one inventory"},
		{"certs rotate --accept-new", Usage, "none is given"},
		{"certs rotate", NotDone, "[keys-missing]"},
		{"deploy", Usage, "perhaps `howdah install` is meant"},
		{"doctor a b", Usage, "doctor takes one inventory"},
		{"doctor --host 10.0.0.1", Usage, "--host is for a host of an inventory"},
		{"list", NotDone, "[cluster-which]"},
		{"list nosuch", NotDone, "[cluster-unknown]"},
		{"switchover nosuch", NotDone, "[cluster-unknown]"},
		{"fault kill-postgres demo", NotDone, "[playground-none]"},
		{"down", Done, "nothing to stop"},
		{"up --dry-run", Done, "would make cluster demo"},
	} {
		code, out, errs := run(t, two, strings.Fields(tt.args)...)
		if code != tt.want || !strings.Contains(out+errs, tt.says) {
			t.Errorf("howdah %s: got %d\n%s%s\nwant %d and %q", tt.args, code, out, errs, tt.want, tt.says)
		}
		if code == Usage && (out != "" || !strings.Contains(errs, "--help`") || !strings.Contains(errs, "usage")) {
			t.Errorf("howdah %s: an error of usage belongs to stderr and names the help: %q, %q", tt.args, out, errs)
		}
		if code != Done && !strings.Contains(tt.args, "--json") {
			for _, part := range []string{"  why: ", "  do:  ", "  ["} {
				if !strings.Contains(errs, part) {
					t.Errorf("howdah %s: %q is missing in %q", tt.args, part, errs)
				}
			}
		}
	}
}

func TestADirectoryThatIsNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, file + "/below"} {
		for _, verb := range []string{"up", "up --dry-run", "down", "list", "psql", "fault kill-node"} {
			code, _, errs := run(t, dir, strings.Fields(verb)...)
			if code != NotDone || !strings.Contains(errs, "[datadir-path]") || !strings.Contains(errs, file+" is not a directory") {
				t.Errorf("howdah %s in %s: got %d, %q", verb, dir, code, errs)
			}
		}
	}
	code, _, errs := run(t, "/proc/nowhere", "up")
	if code != NotDone || !strings.Contains(errs, "[datadir-path]") || !strings.Contains(errs, "/proc takes no new directory") {
		t.Errorf("up in /proc: got %d, %q", code, errs)
	}
}

func TestAnInterruptedCommand(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs strings.Builder
	code := Run(ctx, []string{"agent", "--node", "/n"}, Process{
		Out: &out, Err: &errs, Env: func(string) string { return "" },
		Roles: Roles{Agent: func(ctx context.Context, _ string) error { return ctx.Err() }},
	})
	if code != NotDone || !strings.Contains(errs.String(), "[interrupted]") {
		t.Errorf("got %d, %q", code, errs.String())
	}
}

func TestTypos(t *testing.T) {
	words := []string{"list", "status", "switchover", "up", "down"}
	for word, want := range map[string]string{
		"list": "list", "lsit": "list", "lists": "list", "LIST": "list", "sattus": "status", "switch": "switchover", "dwon": "down",
		"ip": "up", "x": "", "xyzzy": "", "": "", "downtown": "",
	} {
		if got := nearest(word, words); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestErrorsForPrograms(t *testing.T) {
	code, out, errs := run(t, house(t), "list", "--json")
	var got map[string]string
	if err := json.Unmarshal([]byte(errs), &got); err != nil || out != "" || code != NotDone {
		t.Fatalf("got %d, %q, %q: %v", code, out, errs, err)
	}
	for _, part := range []string{"code", "what", "why", "do"} {
		if got[part] == "" {
			t.Errorf("%s is missing: %v", part, got)
		}
	}
	if got["code"] != "cluster-none" {
		t.Errorf("got %v", got)
	}
}

func TestWordsAreClustersOrMembers(t *testing.T) {
	h := control.House{Dir: house(t, "demo/demo-1")}
	for _, tt := range []struct {
		args    []string
		members int
		name    string
		rest    []string
	}{
		{nil, many, "", nil},
		{[]string{"demo"}, many, "demo", nil},
		{[]string{"demo", "demo-2"}, many, "demo", []string{"demo-2"}},
		{[]string{"demo-1", "demo-2"}, many, "", []string{"demo-1", "demo-2"}},
		{[]string{"nosuch"}, 0, "nosuch", nil},
	} {
		name, rest := split(h, tt.args, tt.members)
		if name != tt.name || !slices.Equal(rest, tt.rest) {
			t.Errorf("%v: got %q, %v, want %q, %v", tt.args, name, rest, tt.name, tt.rest)
		}
	}
}

func TestAsking(t *testing.T) {
	for _, tt := range []struct {
		name     string
		terminal bool
		yes, dry bool
		risk     risk
		answer   string
		goOn     bool
		wrong    bool
	}{
		{"a person says yes", true, false, false, destructive, "y\n", true, false},
		{"a person says no", true, false, false, harmless, "\n", false, true},
		{"a person says nothing", true, false, false, harmless, "", false, true},
		{"nobody there, harmless", false, false, false, harmless, "", true, false},
		{"nobody there, destructive", false, false, false, destructive, "", false, true},
		{"nobody there, meant", false, true, false, destructive, "", true, false},
		{"only looking", false, true, true, destructive, "", false, false},
	} {
		var out, errs strings.Builder
		a := &app{Process: Process{In: strings.NewReader(tt.answer), Out: &out, Err: &errs, Terminal: tt.terminal}, yes: tt.yes, dry: tt.dry}
		goOn, err := a.sure("delete everything", tt.risk)
		if goOn != tt.goOn || (err != nil) != tt.wrong {
			t.Errorf("%s: got %v, %v", tt.name, goOn, err)
		}
	}
}

func TestCompletion(t *testing.T) {
	dir := house(t, "demo/demo-1", "shop/shop-1")
	if code, out, errs := run(t, dir, "__complete", "list", ""); code != Done || !strings.HasPrefix(out, "demo\nshop\n") {
		t.Errorf("got %d, %q, %q", code, out, errs)
	}
	if code, out, _ := run(t, dir, "completion", "bash"); code != Done || !strings.Contains(out, "complete") {
		t.Errorf("completion bash: got %d and %d bytes", code, len(out))
	}
}

func TestEveryVerbHasExamples(t *testing.T) {
	root := (&app{Process: Process{Env: func(string) string { return "" }}}).root()
	for _, verb := range root.Commands() {
		if verb.Hidden || verb.Name() == "version" || verb.Name() == "etcd" {
			continue
		}
		if verb.Example == "" || verb.Short == "" {
			t.Errorf("%s: help has no example", verb.Name())
		}
		if verb.Name() == pgExporterName {
			continue // its flags are those of the program it replaces
		}
		if f := verb.Flags(); f.Lookup("dry-run") != nil && (f.Lookup("yes") == nil || f.Lookup("json") == nil) {
			t.Errorf("%s: changes something without --yes or --json", verb.Name())
		}
	}
}
