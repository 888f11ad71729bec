package node

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"howdah/nodefile"
	"howdah/spec"
)

// The names come into the file, follow, and leave with the supervisor; nothing else in
// it is touched.
func TestTheHostsFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "etc", "hosts")
	n := spec.Node{Paths: spec.Paths{Run: dir}, DNS: spec.DNS{Hosts: filepath.Join(dir, "hosts"), Zones: []spec.Zone{{Cluster: "demo"}}}}
	const own = "127.0.0.1 localhost\n\n# mine\n10.0.0.9 demo-9"
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.Mkdir(filepath.Dir(file), 0o755))
	check(os.WriteFile(file, []byte(own), 0o640))
	check(os.Symlink(file, n.DNS.Hosts))
	is := func() string {
		b, err := os.ReadFile(file)
		check(err)
		return string(b)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	h := &hosts{node: n, log: slog.New(slog.DiscardHandler)}
	go func() { done <- h.Run(ctx) }()
	for _, leader := range []string{"10.0.0.1", "10.0.0.2"} {
		check(nodefile.WriteNames(n, []string{leader + " demo-primary", "6.6.6.6 example.org"}))
		waitFor(t, "the name is "+leader, func() bool { return strings.Contains(is(), "\n"+leader+" demo-primary\n") })
		if text := is(); !strings.HasPrefix(text, own+"\n# BEGIN howdah") || strings.Contains(text, "example.org") || strings.Count(text, "demo-primary") != 1 {
			t.Errorf("the file is\n%s", text)
		}
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("its permissions are %v, %v", st.Mode(), err)
	}
	cancel()
	check(<-done)
	if text := is(); text != own+"\n" {
		t.Errorf("what is left is %q", text)
	}
	if lines := nodefile.ReadNames(n); lines != nil {
		t.Errorf("the next would begin with %q", lines)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".hosts-*")); len(left) > 0 {
		t.Errorf("it left %v", left)
	}

	broken := own + "\n# END howdah\n"
	check(os.WriteFile(file, []byte(broken), 0o640))
	if err := putHosts(n.DNS.Hosts, []string{"10.0.0.1 demo-primary"}); err == nil || is() != broken {
		t.Errorf("%v, and the file is\n%s", err, is())
	}
}
