package pgbackrest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"howdah/backup"
	"howdah/backup/repo"
)

// PostgreSQL asks for one file after the other. With archive-async a process that
// outlives the command works ahead of it: it pushes all files that are ready, or
// fetches the segments that will be asked for, several at once.

const (
	pushLook = 5 * time.Millisecond // how often it is looked whether the file was pushed
	pushIdle = time.Second          // so long a process that pushes waits for more
	getIdle  = 10 * time.Second     // and one that fetches
)

func (c *command) push(ctx context.Context, d backup.Desk, p Process) error {
	if len(c.args) != 1 {
		return repo.Errorf(repo.ParamRequired, "archive-push requires one parameter: the path of the WAL file; is archive_command configured as 'pgbackrest --stanza=%s archive-push %%p'?", d.Stanza)
	}
	if c.yes("archive-async") {
		return c.pushAsync(ctx, d, p)
	}
	if !c.yes("push-while-stopping") && d.Stopping() {
		return errStopping
	}
	if c.has("archive-push-queue-max") {
		pending, err := d.Pending()
		if err != nil {
			return err
		}
		if limit := c.bytes("archive-push-queue-max"); pending > limit {
			d.Voice.Warn("%s", backup.Dropped(filepath.Base(c.args[0]), limit))
			return nil
		}
	}
	coding, err := c.coding()
	if err != nil {
		return err
	}
	return d.Push(ctx, c.args[0], coding, c.yes("archive-header-check"))
}

// pushAsync returns when the file is noted to lie in every repository. Who pushes
// it is another process, which is begun where there is none.
func (c *command) pushAsync(ctx context.Context, d backup.Desk, p Process) error {
	if err := d.Allowed(); err != nil {
		return err
	}
	path := c.args[0]
	if !filepath.IsAbs(path) {
		path = filepath.Join(d.Server.Path, path)
	}
	name, spool := filepath.Base(path), backup.SpoolOf(c.text("spool-path"), d.Stanza)
	var ended chan error // by the process that was begun
	tick := time.NewTicker(pushLook)
	defer tick.Stop()
	for first := true; ; first = false {
		done, warning, failed := spool.Pushed(path)
		switch {
		case done:
			if warning != "" {
				d.Voice.Warn("%s", warning)
			}
			d.Voice.Info("pushed WAL file '%s' to the archive asynchronously", name)
			return nil
		case failed != nil && !first: // what was noted before this command is tried again
			return failed
		}
		if !c.yes("push-while-stopping") && d.Stopping() {
			return errStopping
		}
		if ended == nil && d.Idle() {
			if err := spool.Forget(name); err != nil {
				return err
			}
			var err error
			if ended, err = c.ahead(p, filepath.Dir(path)); err != nil {
				return err
			}
		}
		select {
		case err := <-ended:
			if err != nil {
				return err
			}
			ended = nil // another one was at it, or had seen nothing more to do
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pushWaiting is the other process.
func (c *command) pushWaiting(ctx context.Context, d backup.Desk) error {
	if len(c.args) != 1 {
		return repo.Errorf(repo.ParamRequired, "WAL path to push required")
	}
	coding, err := c.coding()
	if err != nil {
		return err
	}
	o := d.Outbox(c.text("spool-path"), c.args[0], coding, c.yes("archive-header-check"))
	o.Workers, o.Max, o.Room = c.number("process-max"), c.bytes("archive-push-queue-max"), c.yes("push-queue-room")
	if !c.yes("push-while-stopping") {
		o.Over = func() bool { return d.Stopping() || d.Standby() }
	}
	err = d.Drain(ctx, o, pushIdle)
	if repo.ClassOf(err) == repo.LockAcquire {
		return nil // another one is at it
	}
	if err != nil && ctx.Err() == nil { // also what is about no file: who waits hears of it
		err = errors.Join(err, o.Spool.Failed("", err))
	}
	return err
}

func (c *command) get(ctx context.Context, d backup.Desk, p Process, l *log) error {
	if len(c.args) != 2 {
		return repo.Errorf(repo.ParamRequired, "archive-get requires two parameters: the name of a WAL file and where to put it")
	}
	var err error
	if c.yes("archive-async") {
		err = d.GetAhead(ctx, c.queue(d), c.args[0], c.args[1], func(from string) error {
			_, err := c.ahead(p, from)
			return err
		})
	} else {
		err = d.Get(ctx, c.args[0], c.args[1])
	}
	if errors.Is(err, backup.ErrAbsent) {
		l.voice().Info("unable to find %s in the archive", c.args[0])
		return errNotFound
	}
	return err
}

// queue is what is fetched ahead.
func (c *command) queue(d backup.Desk) backup.Ahead {
	return backup.Ahead{
		Spool: backup.SpoolOf(c.text("spool-path"), d.Stanza), Max: c.bytes("archive-get-queue-max"),
		Workers: c.number("process-max"), Idle: getIdle,
	}
}

// fetchAhead is the process that fetches.
func (c *command) fetchAhead(ctx context.Context, d backup.Desk) error {
	if len(c.args) != 1 {
		return repo.Errorf(repo.ParamRequired, "WAL segment to fetch required")
	}
	return d.Ahead(ctx, c.queue(d), c.args[0])
}

// ahead begins the process that works ahead of this command: with its options, in
// a session of its own, with nothing of PostgreSQL's but its directory. The channel
// says how it ended, to whoever still wants to know.
func (c *command) ahead(p Process, arg string) (chan error, error) {
	// What PostgreSQL left open in this process is not for one that outlives it.
	if err := unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return nil, err
	}
	words := append(append(executable(p), c.options...), c.name+asyncRole, arg)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = "/" // who works in a data directory is taken for its server
	cmd.Env, cmd.SysProcAttr = p.Environ, &syscall.SysProcAttr{Setsid: true}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() {
		if err := cmd.Wait(); err != nil {
			ended <- repo.Errorf(repo.Runtime, "the process that works ahead ended with %w; its log is %s-%s-async.log in log-path", err, c.text("stanza"), c.name)
			return
		}
		ended <- nil
	}()
	return ended, nil
}
