package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"howdah/ha/quorum"
	"howdah/lease"
	"howdah/logkey"
	"howdah/pg"
)

// Files beside the data, which outlive it.
const (
	refusedFile = "howdah.refused" // the epoch up to which nothing is taken
	copiedFile  = "howdah.copied"  // the data are a copy that has not caught up with a leader
)

// ErrRefused refuses to take log from a leader whose end this member has pledged.
var ErrRefused = errors.New("this member has pledged to take nothing more from that leader")

// Refuse makes this member take no log from the leader of epoch or of one before,
// come what may, and says where its own log ends after that. The order is the
// argument: the refusal is on disk before anything else; then whoever is about to
// connect has no password; then nobody is connected; only then the end is read.
func (s *Server) Refuse(ctx context.Context, epoch int64) (f quorum.Fence, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("refuse epoch %d: %w", epoch, err)
		}
	}()
	f.Member = s.node.Member
	if before := s.refusal(); int64(before) < epoch {
		if err := s.write(s.beside(refusedFile), strconv.FormatInt(epoch, 10)+"\n", 0o600); err != nil {
			return f, err
		}
	}
	f.Refusal, f.Durable = s.refusal(), lease.Now()
	// What a startup process read before the reload it may still connect with: without
	// a password nobody lets it in.
	if err := remove(s.beside("pgpass")); err != nil {
		return f, err
	}
	if err := s.writeFollowing(&pg.Upstream{}); err != nil {
		return f, err
	}
	p, running := Postmaster(s.data)
	if running {
		if err := unix.Kill(p.PID, unix.SIGHUP); err != nil {
			return f, err
		}
		if err := until(ctx, pause/2, func() (bool, error) {
			st := s.Look(ctx)
			if !st.Answers {
				return false, ErrNotRunning
			}
			return st.Upstream == "" && st.Slot == "", nil
		}); err != nil {
			return f, err
		}
	}
	f.Cleared = lease.Now()
	if err := until(ctx, pause/2, func() (bool, error) {
		began := lease.Now()
		all, err := s.called("walreceiver")
		for _, pid := range all {
			_ = unix.Kill(pid, unix.SIGTERM)
		}
		f.Gone = began
		return len(all) == 0, err
	}); err != nil {
		return f, err
	}
	f.Read = lease.Now()
	st := s.Look(ctx)
	switch {
	case st.Process == pg.ProcessNone && st.Data == pg.DataPresent:
		end, err := s.End(ctx)
		if err != nil {
			return f, err
		}
		f.At = quorum.Position{Timeline: max(st.Control.Timeline, st.Control.MinEndTL, s.timelineAt(end)), LSN: max(end, st.Control.Checkpoint)}
	case st.Answers && st.Recovering:
		f.At = quorum.Position{Timeline: st.Timeline, LSN: st.Flushed}
	default:
		return f, fmt.Errorf("%w (%s)", ErrNotStandby, st.Process)
	}
	f.Whole = !st.Copied
	s.log.Info("log of the leader refused", logkey.Epoch, epoch, "lsn", f.At.LSN, logkey.Took, f.Read-f.Durable)
	return f, nil
}

// called are the processes on our data directory with word in their command line.
func (s *Server) called(word string) (pids []int, err error) {
	all, err := holders(s.data)
	for _, h := range all {
		line, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(h.PID), "cmdline"))
		if bytes.Contains(line, []byte(word)) {
			pids = append(pids, h.PID)
		}
	}
	return pids, err
}

// refusal is what this member has refused.
func (s *Server) refusal() quorum.Refusal {
	text, _ := os.ReadFile(s.beside(refusedFile))
	epoch, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return quorum.Refusal(epoch)
}

// allowed returns ErrRefused for an upstream whose log was refused.
func (s *Server) allowed(up pg.Upstream) error {
	if r := s.refusal(); up.Name != "" && r > 0 && !r.Allows(up.Epoch) {
		return fmt.Errorf("%s, epoch %d: %w (up to epoch %d)", up.Name, up.Epoch, ErrRefused, r)
	}
	return nil
}

// Whole says that the data, which were copied, have caught up with a leader. Those that
// fetch log out of a repository do not from here on, and count as a copy until they are
// found to have caught up once more: what they confirm a leader comes from that leader.
func (s *Server) Whole(ctx context.Context) error {
	if s.fetching() != "" {
		return s.unfetch(ctx)
	}
	return remove(s.beside(copiedFile))
}

func (s *Server) copied() bool {
	_, err := os.Lstat(s.beside(copiedFile))
	return !errors.Is(err, fs.ErrNotExist)
}

// reserve makes the timeline that comes next the given one: those between are
// reserved for others, and PostgreSQL takes the number after the highest that it
// knows of (findNewestTimeLine). An empty file of history makes it know of one.
func (s *Server) reserve(tl pg.Timeline) error {
	names, err := walNames(s.data)
	if err != nil {
		return err
	}
	ctl, err := readControl(s.data)
	if err != nil {
		return err
	}
	for id := max(ctl.Timeline, ctl.MinEndTL, 1) + 1; id < tl; id++ {
		if name := id.HistoryFile(); !slices.Contains(names, name) {
			if err := s.write(filepath.Join(s.data, "pg_wal", name), "", 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// unreserve takes away placeholders that no history of a later timeline follows:
// a standby that starts would take the last of them for the newest timeline.
func (s *Server) unreserve() error {
	names, err := walNames(s.data)
	if err != nil {
		return err
	}
	for _, name := range slices.Backward(names) {
		if !strings.HasSuffix(name, ".history") {
			continue
		}
		path := filepath.Join(s.data, "pg_wal", name)
		if st, err := os.Stat(path); err != nil || st.Size() > 0 {
			return err
		}
		if err := remove(path); err != nil {
			return err
		}
	}
	return nil
}
