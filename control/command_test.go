package control

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/problem"
)

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		"pass show app":            {"pass", "show", "app"},
		` vault  kv 'a b' "c'd" `:  {"vault", "kv", "a b", "c'd"},
		`echo $HOME;id|x > y`:      {"echo", "$HOME;id|x", ">", "y"},
		`p -field=''pass''word ""`: {"p", "-field=password", ""},
		`a\ b`:                     {`a\`, "b"},
		"":                         nil,
		"  ":                       nil,
		`"" x`:                     nil,
		"pass 'app":                nil,
	} {
		if got, err := words(line); !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q: %q, %v, want %q", line, got, err, want)
		}
	}
}

// A command tells a secret: beside the inventory, without a shell, once for each. What
// goes wrong is told without anything that it printed, and it ends with all that it began.
func TestSecretsByCommand(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pigsty.yml")
	script := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	script("tell", `echo x >>asked; echo "of $1"`)
	script("fails", "echo PRINTED; echo SAID >&2; exit 3")
	script("many", "head -c 70000 /dev/zero | tr '\\0' S")
	script("lines", "echo ONE; echo TWO")
	script("nothing", "exit 0")
	script("hangs", "echo $$ >pid; sleep 600 & wait")
	read := func(password string) (Inventory, error) {
		t.Helper()
		text := fmt.Sprintf("all: { children: { pg-one: { vars: { pg_cluster: pg-one, pg_users: [ { name: a, password: %q }, { name: b, password: %q } ] }, hosts: { 127.0.0.1: { pg_seq: 1, pg_role: primary } } } } }\n", password, password)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return ReadInventory(file)
	}
	inv, err := read(`command:./tell 'the app; echo $HOME'`)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"user:a", "user:b"} {
		if got := inv.World.Clusters[0].Secrets[name].Reveal(); got != "of the app; echo $HOME" {
			t.Errorf("%s is %q", name, got)
		}
	}
	if asked, _ := os.ReadFile(filepath.Join(dir, "asked")); string(asked) != "x\n" {
		t.Errorf("asked %q", asked)
	}
	if len(inv.Elsewhere) == 0 {
		t.Error("another machine would not have the command, and nobody says so")
	}
	for password, want := range map[string]string{
		"command:./fails":                "the command ./fails ended with exit status 3",
		"command:./many":                 "printed more than 65536 bytes",
		"command:./lines":                "did not print one line",
		"command:./nothing":              "did not print one line",
		"command:./nowhere":              "no such file",
		"command:howdah-has-none-such x": "executable file not found",
		"command:":                       "no program",
		"command:'":                      "a quote that does not end",
	} {
		_, err := read(password)
		if problem.Code(err) != "inventory-files" || !strings.Contains(problem.Text(err), want) {
			t.Errorf("%s: %v, want %q", password, err, want)
		}
		for _, part := range []string{"PRINTED", "SAID", "SSS", "ONE", "TWO"} {
			if err != nil && strings.Contains(problem.Text(err), part) {
				t.Errorf("%s: the error tells %s: %v", password, part, err)
			}
		}
	}
	if _, err := ask("./hangs", dir, 300*time.Millisecond); err == nil || !strings.Contains(err.Error(), "longer than 300ms") {
		t.Errorf("one that hangs: %v", err)
	}

	// Whoever else can write the file would run what he likes.
	if _, err := read("command:./tell x"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o620); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadInventory(file); problem.Code(err) != "inventory-files" || !strings.Contains(problem.Text(err), "others may write") {
		t.Errorf("a file of everybody's: %v", err)
	}
}
