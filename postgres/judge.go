package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"howdah/postgres/conf"
)

// Refuses asks an installation which of parameters its server would not take, and
// why, before there is one. Nothing is started: a run that prints one setting
// reads them all (postgres -C; main.c lets root do it, too). Those that it does not
// know hide what is wrong with the values of others, so it is asked again without.
func (p Programs) Refuses(ctx context.Context, parameters map[string]string) (map[string]string, error) {
	bad := map[string]string{}
	dir, err := os.MkdirTemp("", "howdah-try-")
	if err != nil {
		return bad, err
	}
	defer os.RemoveAll(dir)
	left := map[string]string{}
	for name, value := range parameters {
		switch name = strings.ToLower(name); {
		case strings.HasPrefix(name, "include"): // no parameter, but another file
		case name == "role", name == "session_authorization": // which only a session can judge
		case name == "lc_messages": // the answer would be in that language
		default:
			left[name] = value
		}
	}
	for range 2 {
		var text strings.Builder
		for name, value := range left {
			fmt.Fprintf(&text, "%s = %s\n", name, conf.Quote(value))
		}
		if err := os.WriteFile(filepath.Join(dir, conf.File), []byte(text.String()), 0o600); err != nil {
			return bad, err
		}
		cmd := exec.CommandContext(ctx, p.Path("postgres"), "-C", "port", "-D", dir)
		cmd.Env = []string{"LC_ALL=C", "TZ=UTC"}
		out, err := cmd.CombinedOutput()
		if err == nil {
			return bad, nil
		}
		before := len(bad)
		for line := range strings.Lines(string(out)) {
			_, said, _ := strings.Cut(line, "LOG:")
			m := parameterNamed.FindStringSubmatch(said)
			if m == nil {
				continue
			}
			name := strings.ToLower(m[1])
			if _, asked := left[name]; !asked {
				continue
			}
			why, _, _ := strings.Cut(strings.TrimSpace(said), ` in file "`)
			bad[name] = why
			delete(left, name)
		}
		if len(bad) == before {
			return bad, ctx.Err() // it says something that we do not understand
		}
	}
	return bad, nil
}

var parameterNamed = regexp.MustCompile(`parameter "([^"]+)"`)

// Extensions are those that can be made in a database of the installation; nil: it
// is one whose files we do not know.
func (p Programs) Extensions(ctx context.Context) []string {
	dirs := []string{
		filepath.Join(p.Bin, fmt.Sprintf("../../../../share/postgresql/%d/extension", p.Major)), // Debian
		filepath.Join(p.Bin, "../share/extension"), filepath.Join(p.Bin, "../share/postgresql/extension"),
	}
	if share, err := exec.CommandContext(ctx, p.Path("pg_config"), "--sharedir").Output(); err == nil {
		dirs = slices.Insert(dirs, 0, filepath.Join(strings.TrimSpace(string(share)), "extension"))
	}
	for _, dir := range dirs {
		files, _ := filepath.Glob(filepath.Join(dir, "*.control"))
		if len(files) == 0 {
			continue
		}
		names := make([]string, len(files))
		for i, f := range files {
			names[i] = strings.TrimSuffix(filepath.Base(f), ".control")
		}
		slices.Sort(names)
		return names
	}
	return nil
}
