package postgres

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"howdah/logkey"
	"howdah/postgres/conf"
	"howdah/problem"
)

// Refused is the problem's code when Adjust left something out.
const Refused = "parameter-refused"

// Adjust gives the server, whether it runs or not, parameters beyond the node's
// own, which they override; nil takes them back. A value that PostgreSQL would
// refuse is left out: in the file it would keep the server from its next start.
// The error then says which, with the code Refused, and the others count.
func (s *Server) Adjust(ctx context.Context, parameters map[string]string) error {
	good, bad := conf.Dynamic(parameters)
	for name, why := range s.impossible(ctx, good) {
		bad = append(bad, conf.Fault{Name: name, Why: why})
		delete(good, name)
	}
	if err := ctx.Err(); err != nil {
		return err // then nothing was tried to its end
	}
	s.own.Lock()
	s.own.dynamic = good
	s.own.Unlock()
	if _, running := Postmaster(s.data); running {
		if err := s.Reload(ctx); err != nil {
			return err
		}
	}
	s.log.Info("parameters set", "parameters", strings.Join(slices.Sorted(maps.Keys(good)), " "))
	if len(bad) == 0 {
		return nil
	}
	slices.SortFunc(bad, func(a, b conf.Fault) int { return strings.Compare(a.Name, b.Name) })
	var names, why []string
	for _, f := range bad {
		names, why = append(names, f.Name), append(why, f.Name+": "+f.Why)
	}
	s.log.Warn("parameters refused", logkey.Error, strings.Join(why, "; "))
	return &problem.Error{
		Code: "parameter-refused", What: "cannot set " + strings.Join(names, ", "), Why: strings.Join(why, "; "),
		Do: "correct it under postgresql.parameters (`howdah edit-config`); the other parameters are in force",
	}
}

// impossible asks PostgreSQL itself which values it does not take, by a run that
// only prints a setting: first all at once, which is nearly always well.
func (s *Server) impossible(ctx context.Context, parameters map[string]string) map[string]string {
	bad := map[string]string{}
	if len(parameters) == 0 {
		return bad
	}
	if missing := s.missingLibraries(parameters["shared_preload_libraries"]); len(missing) > 0 {
		bad["shared_preload_libraries"] = "there is no library " + strings.Join(missing, ", ") + " in this installation"
	}
	dir := s.beside("try")
	if err := s.mkdir(dir, 0o700); err != nil {
		return bad
	}
	defer os.RemoveAll(dir)
	if err := s.write(filepath.Join(dir, conf.File), "", 0o600); err != nil {
		return bad
	}
	try := func(names ...string) error {
		args := []string{"-D", dir}
		for _, name := range names {
			args = append(args, "-c", name+"="+parameters[name])
		}
		_, err := s.account.run(ctx, tool{path: s.programs.Path("postgres"), args: append(args, "-C", "port"), env: []string{"LC_ALL=C"}})
		return err
	}
	names := slices.Sorted(maps.Keys(parameters))
	if try(names...) == nil {
		return bad
	}
	for _, name := range names {
		if err := try(name); err != nil {
			bad[name] = strings.TrimSpace(lastOf(err.Error(), "FATAL:"))
		}
	}
	return bad
}

// lastOf returns what follows the last occurrence of mark.
func lastOf(text, mark string) string {
	if i := strings.LastIndex(text, mark); i >= 0 {
		return text[i+len(mark):]
	}
	return text
}

// missingLibraries returns those of a list of libraries that the installation
// does not have; PostgreSQL finds that out only when it starts.
func (s *Server) missingLibraries(list string) (missing []string) {
	var dirs []string
	for _, dir := range []string{"../lib", "../lib/postgresql"} {
		dir = filepath.Join(s.programs.Bin, dir)
		if _, err := os.Stat(filepath.Join(dir, "plpgsql.so")); err == nil {
			dirs = append(dirs, dir)
		}
	}
	if len(dirs) == 0 {
		return nil // an installation that we do not know: nothing can be said
	}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.Trim(strings.TrimSpace(name), `"'`)
		name = strings.TrimSuffix(strings.TrimPrefix(name, "$libdir/"), ".so")
		if name == "" || strings.Contains(name, "/") {
			continue
		}
		there := slices.ContainsFunc(dirs, func(dir string) bool {
			_, err := os.Stat(filepath.Join(dir, name+".so"))
			return err == nil
		})
		if !there {
			missing = append(missing, fmt.Sprintf("%q", name))
		}
	}
	return missing
}
