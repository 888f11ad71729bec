package control

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"howdah/problem"
	"howdah/spec"
	"howdah/test/testpg"
)

// What the reader of the file says, what PostgreSQL says of names in it, and what
// is not beside it come together, each with its line.
func TestJudgeInventory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.yml")
	read := func(text string) (Inventory, error) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return JudgeInventory(t.Context(), file)
	}
	testpg.Majors(t) // or there is none
	const good = `cluster: app
hosts: [10.10.10.11]
parameters:
  work_mem: 8MB
libs: auto_explain
users:
  - { name: app, password: secret, parameters: { statement_timeout: 1s } }
  - { name: b, parameters: { statement_timeout: 2s } }
databases:
  - { name: app, extensions: [plpgsql] }
hba: [{ addr: world }]
`
	if inv, err := read(good); err != nil || len(inv.World.Findings) > 0 {
		t.Fatalf("without a mistake: %v, %v", err, inv.World.Findings)
	}
	inv, err := read(strings.NewReplacer("work_mem: 8MB", "wrok_mem: 8MB", "auto_explain", "auto_explian", "password: secret", "password: env:HOWDAH_NOBODY_HAS_THIS",
		"statement_timeout: 2s", "statement_timeout: often", "plpgsql", "plpgslq", "addr: world", "addr: word").Replace(good))
	if problem.Code(err) != "inventory-invalid" {
		t.Fatalf("got %v", err)
	}
	for _, want := range []struct{ kind, place, text string }{
		{spec.Problem, file + ":4", `unrecognized configuration parameter "wrok_mem"`},
		{spec.Problem, file + ":8", `user b of cluster app: invalid value for parameter "statement_timeout": "often"`},
		{spec.Problem, file + ":11", `the address of a rule is "word"`},
		{spec.Problem, file, "HOWDAH_NOBODY_HAS_THIS"},
		{spec.Warning, file + ":5", `no library "auto_explian"`},
		{spec.Warning, file + ":10", `no extension "plpgslq", which database app of cluster app is to have`},
	} {
		found := false
		for _, f := range inv.World.Findings {
			found = found || f.Kind == want.kind && inv.World.Place(f.Line) == want.place && strings.Contains(f.Text, want.text)
		}
		if !found {
			t.Errorf("nobody says %+v, but %+v", want, inv.World.Findings)
		}
		if want.kind == spec.Problem && !strings.Contains(problem.Text(err), want.text) {
			t.Errorf("the error is %s, without %q", problem.Text(err), want.text)
		}
	}
	if _, err := read(strings.Replace(good, "password: secret", "password: env:HOWDAH_NOBODY_HAS_THIS", 1)); problem.Code(err) != "inventory-files" {
		t.Errorf("what is missing alone: %v", err)
	}
}
