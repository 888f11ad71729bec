package postgres

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"howdah/logkey"
	"howdah/pg"
	"howdah/postgres/conf"
	"howdah/problem"
)

// What the file copiedFile says of data that came out of a repository, from which
// their log is fetched too.
const fetches = "repository\n"

// Restore brings the newest backup of the system that the node's repositories have
// into an absent or empty data directory, or over a copy of ours that did not finish,
// and marks it as a standby's. From there it goes on by the log in the repository,
// and then by streaming. It says which backup it was, and why that one.
//
// This program does it, in a process of its own (keep.Replica): the agent's is to
// stay small.
func (s *Server) Restore(ctx context.Context, system pg.SystemID, progress func(done, total int64)) (from string, err error) {
	began := time.Now()
	failed := func(why string, err error) error {
		return &problem.Error{
			Code: "replica-repository", What: "cannot make the data of " + s.node.Member + " from a backup", Why: why, Err: err,
			Do: "see `howdah backups " + s.node.Cluster + "`; unless the inventory says otherwise a base backup is taken instead",
		}
	}
	if s.node.Backup.Config == "" || s.node.Paths.Binary == "" {
		return "", failed("it has no repository", nil)
	}
	run := func(args ...string) (string, error) {
		said := ""
		text, err := s.account.run(ctx, tool{path: s.node.Paths.Binary, args: append([]string{"replica", "--node", s.node.Paths.Dir, "--system", system.String()}, args...), line: func(line string) {
			if m := progressLine.FindStringSubmatch(line); m != nil {
				done, _ := strconv.ParseInt(m[1], 10, 64)
				total, _ := strconv.ParseInt(m[2], 10, 64)
				if progress != nil {
					progress(done<<10, total<<10)
				}
			} else if rest, ok := strings.CutPrefix(line, "takes "); ok {
				said = rest
			}
		}})
		return said, s.toolError("restore a backup", text, err)
	}
	// Before anything is touched: without a backup that will do nothing was.
	if _, err := run("--dry-run"); err != nil {
		if ctx.Err() != nil {
			return "", err
		}
		return "", failed("", err)
	}
	if err := s.write(s.beside(copiedFile), fetches, 0o600); err != nil {
		return "", fmt.Errorf("restore a backup: %w", err)
	}
	if err := s.clear("clone"); err != nil {
		return "", fmt.Errorf("restore a backup: %w", err)
	}
	if from, err = run(); err != nil {
		if problem.Code(err) != "" || ctx.Err() != nil {
			return "", err
		}
		return "", failed("", err)
	}
	if err := os.Chmod(s.data, 0o700); err != nil {
		return "", err
	}
	if err := s.becomeStandby(); err != nil {
		return "", fmt.Errorf("restore a backup: %w", err)
	}
	s.log.Info("database system restored from a repository", "takes", from, logkey.Took, time.Since(began))
	return from, nil
}

// fetching is the restore_command of a standby, as long as its data are a copy out of
// a repository that has not caught up; "": it fetches nothing.
//
// It looks for itself whether that is still so: a command that the server reads before
// a reload, and runs after, finds nothing either.
func (s *Server) fetching() string {
	text, err := os.ReadFile(s.beside(copiedFile))
	if err != nil || string(text) != fetches || s.node.Backup.Config == "" {
		return ""
	}
	return fmt.Sprintf(`test -s %s && exec %s pgbackrest --config=%s --stanza=%s --log-level-console=off --log-level-stderr=off archive-get %%f "%%p"`,
		word(s.beside(copiedFile)), word(s.node.Paths.Binary), word(s.node.Backup.Config), word(s.node.Cluster))
}

// word is one word for a shell, in a setting that knows %.
func word(s string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "%", "%%").Replace(s) + "'"
}

// unfetch has the server take its log from nowhere but its upstream, and waits for
// what is being fetched. The mark of a copy stays.
func (s *Server) unfetch(ctx context.Context) error {
	if err := s.write(s.beside(copiedFile), "", 0o600); err != nil {
		return err
	}
	path := s.in(conf.Standby)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var kept strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "restore_command ") {
			kept.WriteString(line)
		}
	}
	if err := s.write(path, kept.String(), 0o600); err != nil {
		return err
	}
	p, running := Postmaster(s.data)
	if !running {
		return nil
	}
	if err := unix.Kill(p.PID, unix.SIGHUP); err != nil {
		return err
	}
	return until(ctx, pause, func() (bool, error) {
		all, err := s.called("archive-get")
		return len(all) == 0, err
	})
}
