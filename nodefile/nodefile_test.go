package nodefile

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"howdah/problem"
	"howdah/secret"
	"howdah/spec"
)

func node(t *testing.T) spec.Node {
	dir := t.TempDir()
	return spec.Node{
		Cluster: "demo", Member: "demo-1",
		Paths: spec.Paths{Dir: dir, Secrets: filepath.Join(dir, "secrets.json")},
		Agent: spec.Agent{Timers: spec.Safe()},
	}
}

func TestANodeComesBackAsItWasWritten(t *testing.T) {
	n := node(t)
	if err := Write(n, -1, -1); err != nil {
		t.Fatal(err)
	}
	got, err := Load(n.Paths.Dir)
	if err != nil || !reflect.DeepEqual(got, n) {
		t.Errorf("Load = %+v, %v; want %+v", got, err, n)
	}
}

// What another version of the program wrote can be read, and what is broken is
// told with its place.
func TestAnotherVersionsKeysAreNoError(t *testing.T) {
	n := node(t)
	path := filepath.Join(n.Paths.Dir, Name)
	if err := Write(n, -1, -1); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	put := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(strings.Replace(string(text), "{", `{"colour": {"of": "the elephant"},`, 1))
	if got, err := Load(n.Paths.Dir); err != nil || !reflect.DeepEqual(got, n) {
		t.Errorf("Load with a key of another version = %+v, %v; want %+v", got, err, n)
	}
	put("{\n\"cluster\": \"demo\",\n\"member\": 1}\n")
	if _, err := Load(n.Paths.Dir); problem.Code(err) != "node-file" || !strings.Contains(err.Error(), path+":3") {
		t.Errorf("Load = %v; want node-file naming %s:3", err, path)
	}
	put(`{"cluster":"demo","member":"a","paths":{"dir":"/x"}} {}`)
	if _, err := Load(n.Paths.Dir); problem.Code(err) != "node-file" {
		t.Errorf("Load of two objects = %v; want node-file", err)
	}
}

func TestANodeWhoseNamesCannotBeUsed(t *testing.T) {
	for name, spoil := range map[string]func(*spec.Node){
		"a path for a name":    func(n *spec.Node) { n.Member = "../demo-1" },
		"a key for a cluster":  func(n *spec.Node) { n.Cluster = "demo/x" },
		"a slot shared by two": func(n *spec.Node) { n.Etcd.Members = []spec.EtcdMember{{Name: "demo-1"}, {Name: "Demo.1"}} },
	} {
		n := node(t)
		spoil(&n)
		if err := Write(n, -1, -1); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(n.Paths.Dir, Name)
		if _, err := Load(n.Paths.Dir); problem.Code(err) != "name-unusable" || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: Load = %v; want name-unusable and %s", name, err, path)
		}
	}
}

func TestSecretsStayInTheirFile(t *testing.T) {
	n := node(t)
	if err := WriteSecrets(n.Paths.Secrets, map[string]secret.Text{"demo": "hush"}, -1, -1); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(n.Paths.Secrets)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", st.Mode(), err)
	}
	got, err := Secrets(n)
	if err != nil || got["demo"].Reveal() != "hush" {
		t.Errorf("Secrets = %v, %v", got, err)
	}
	if s := fmt.Sprint(got); strings.Contains(s, "hush") {
		t.Errorf("printed: %s", s)
	}
	if err := os.WriteFile(n.Paths.Secrets, []byte(`{"demo": hush}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Secrets(n); problem.Code(err) != "secrets-file" || strings.Contains(err.Error(), "hush") {
		t.Errorf("Secrets of a broken file = %v; want secrets-file without the secret", err)
	}
}
