package postgres

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"howdah/logkey"
	"howdah/problem"
)

// originate makes the cluster's database system of another one's backup and WAL, as the
// inventory says (spec.Origin), and leaves it stopped, on a timeline of its own. Roles
// come with the data; those of the cluster itself get its passwords.
//
// This program does it, in a process of its own (control.Found): the agent's is to
// stay small.
func (s *Server) originate(ctx context.Context, progress func(done, total int64)) error {
	began, from := time.Now(), s.node.Postgres.Origin
	failed := func(err error) error {
		if ctx.Err() != nil || problem.Code(err) != "" {
			return err
		}
		return &problem.Error{
			Code: "cluster-repository", What: fmt.Sprintf("cannot begin cluster %s with a backup of stanza %s", s.node.Cluster, from.Stanza), Err: err,
			Do: "remove the cause: it is tried again; or take pg_restore_from out of the inventory, and the cluster begins empty",
		}
	}
	sql, err := s.bootstrap(true) // before anything is touched: a secret may be missing
	if err != nil {
		return failed(err)
	}
	takes := ""
	run := func(args ...string) error {
		text, err := s.account.run(ctx, tool{path: s.node.Paths.Binary, args: append([]string{"found", "--node", s.node.Paths.Dir}, args...), line: func(line string) {
			if m := progressLine.FindStringSubmatch(line); m != nil {
				done, _ := strconv.ParseInt(m[1], 10, 64)
				total, _ := strconv.ParseInt(m[2], 10, 64)
				progress(done<<10, total<<10)
			} else if rest, ok := strings.CutPrefix(line, "takes "); ok {
				takes = rest
			}
		}})
		return s.toolError("restore a backup", text, err)
	}
	// Before anything is touched: without a backup that will do nothing was.
	if err := run("--dry-run"); err != nil {
		return failed(err)
	}
	if err := s.clear("init"); err != nil {
		return failed(err)
	}
	if err := run(); err != nil {
		return failed(err)
	}
	if err := os.Chmod(s.data, 0o700); err != nil {
		return failed(err)
	}
	if err := s.single(ctx, sql); err != nil {
		return failed(err)
	}
	if err := s.finish(); err != nil {
		return failed(err)
	}
	s.log.Info("database system made out of a repository", logkey.Path, s.data, "takes", takes, logkey.Took, time.Since(began))
	return nil
}
