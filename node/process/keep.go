package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"howdah/logkey"
)

// A Job is a process that should run for as long as we do, and longer.
type Job struct {
	Name  string
	Path  string   // the program
	Args  []string // without the program's name; they tell this job from every other on the machine
	Env   []string
	Dir   string
	User  *syscall.Credential // nil: as we are
	Owner [2]int              // uid and gid of the log; -1: as it comes
	Log   string              // standard output and error are appended here
	PID   File
	NetNS string // network namespace to run in; "" is ours
	OOM   int    // oom_score_adj, where we may set it
	Low   bool   // processor and disk are for others first
	// Slack is how much later than it asks to the watcher of a Go program may be woken,
	// where we may say so.
	Slack time.Duration
	// Caps are capabilities that it keeps although it is not root. To give them
	// away we must have them.
	Caps  []uintptr
	Grace time.Duration

	// Sockets, if set, is asked before each start for descriptors that the
	// process has from 3 on, and the variable that tells it so.
	Sockets func() (fds []uintptr, env string)
	// Await, if set, is called before each start and returns when the job may
	// run.
	Await func(context.Context)
	// Leave lets the process live on when ctx ends.
	Leave bool
}

// A Keeper keeps jobs running. It outlives none of them: when it dies they
// live on, and the next Keeper of the same jobs adopts them.
type Keeper struct {
	Reaper *Reaper
	Log    *slog.Logger
	Hurry  <-chan struct{} // closed: whoever is being stopped has Haste left
	Haste  time.Duration
	// Leaves, if set, is asked when ctx ends: true lets every process live on.
	Leaves func() bool
}

// Pauses before the next start of a job that keeps dying young.
var pauses = []time.Duration{0, 0, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second}

const (
	young    = time.Second // who lived longer than this is started again at once
	logLimit = 16 << 20    // a log that is longer is put aside when the job starts
)

// ErrKilled says that a job had to be killed because it did not stop in time.
var ErrKilled = errors.New("did not stop in time and was killed")

// Keep runs j until ctx ends, then stops it: SIGTERM, the job's grace, SIGKILL.
// An instance that already runs is adopted, never doubled.
func (k *Keeper) Keep(ctx context.Context, j Job) error {
	log := k.Log.With(logkey.Role, j.Name)
	said := ""
	for deaths := 0; ctx.Err() == nil; {
		if j.Await != nil {
			if j.Await(ctx); ctx.Err() != nil {
				return nil
			}
		}
		born := time.Now()
		id, done, err := k.begin(ctx, j, log)
		var end string
		if err != nil {
			end = err.Error()
		} else {
			select {
			case end = <-done:
			case <-ctx.Done():
				if j.Leave || k.Leaves != nil && k.Leaves() {
					return nil
				}
				return k.stop(id, done, j, log)
			}
			os.Remove(string(j.PID))
		}
		if time.Since(born) > young {
			deaths = 0
		}
		pause := pauses[min(deaths, len(pauses)-1)]
		deaths++
		if end != said || deaths < len(pauses) || deaths%60 == 0 {
			log.Warn("role ended", "how", end, "restart_in", pause, "deaths", deaths)
			said = end
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	return nil
}

// Running finds the job's process, if there is one: by the pid file, else by
// its exact arguments.
func (j Job) Running() (ID, bool) {
	if id, ok := j.PID.Read(); ok {
		if a := id.Args(); len(a) > 0 && slices.Equal(a[1:], j.Args) {
			return id, true
		}
	}
	return WithArgs(j.Args...)
}

// begin adopts or starts the job. The channel tells how it ended.
func (k *Keeper) begin(ctx context.Context, j Job, log *slog.Logger) (ID, <-chan string, error) {
	done := make(chan string, 1)
	if id, ok := j.Running(); ok {
		if err := j.PID.Write(id); err != nil {
			return ID{}, nil, fmt.Errorf("pid file: %w", err)
		}
		log.Info("role adopted", logkey.PID, id.PID)
		go adopted(ctx, id, done, log)
		return id, done, nil
	}
	id, status, err := k.start(j)
	if err != nil {
		return ID{}, nil, err
	}
	log.Info("role started", logkey.PID, id.PID)
	go func() { done <- describe(<-status) }()
	return id, done, nil
}

// adopted tells when a process ends that is nobody's child here.
func adopted(ctx context.Context, id ID, done chan<- string, log *slog.Logger) {
	// Not ctx: the end is awaited beyond it. The pidfd of a process
	// that is stopped in the end always becomes ready.
	if err := id.Wait(context.WithoutCancel(ctx)); err != nil {
		log.Error("cannot await an adopted role", logkey.PID, id.PID, logkey.Error, err)
	}
	done <- "ended (adopted, status unknown)"
}

// End stops an instance of j that a predecessor left, if there is one.
func (k *Keeper) End(ctx context.Context, j Job) error {
	id, ok := j.Running()
	if !ok {
		return nil
	}
	log := k.Log.With(logkey.Role, j.Name)
	done := make(chan string, 1)
	go adopted(ctx, id, done, log)
	return k.stop(id, done, j, log)
}

func (k *Keeper) start(j Job) (ID, <-chan syscall.WaitStatus, error) {
	out, err := openLog(j.Log, j.Owner)
	if err != nil {
		return ID{}, nil, fmt.Errorf("log of %s: %w", j.Name, err)
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return ID{}, nil, err
	}
	defer null.Close()
	files, env := []uintptr{null.Fd(), out.Fd(), out.Fd()}, j.Env
	if j.Sockets != nil {
		fds, variable := j.Sockets()
		files, env = append(files, fds...), append(slices.Clone(env), variable)
	}
	id, done, err := k.Reaper.Start(j.Path, j.Args, &syscall.ProcAttr{
		Dir: j.Dir, Env: env,
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true, Credential: j.User, AmbientCaps: j.Caps},
	}, j.NetNS)
	if err != nil {
		return ID{}, nil, err
	}
	SetOOM(id, j.OOM)
	if j.Low {
		if err := lower(id); err != nil {
			k.Log.Warn("priority not lowered", logkey.Role, j.Name, logkey.Error, err)
		}
	}
	if j.Slack > 0 {
		time.AfterFunc(young, func() { _ = sleepIn(id, j.Slack) })
	}
	if err := j.PID.Write(id); err != nil {
		// It runs and will be found by its arguments.
		k.Log.Warn("pid file not written", logkey.Role, j.Name, logkey.Error, err)
	}
	return id, done, nil
}

func (k *Keeper) stop(id ID, done <-chan string, j Job, log *slog.Logger) error {
	asked := time.Now()
	if err := id.Signal(unix.SIGTERM); err != nil && !errors.Is(err, ErrGone) {
		return err
	}
	grace := time.NewTimer(j.Grace)
	defer grace.Stop()
	var late error
	hurry := k.Hurry
	for {
		select {
		case end := <-done:
			os.Remove(string(j.PID))
			log.Info("role stopped", "how", end, logkey.Took, time.Since(asked))
			return late
		case <-hurry:
			hurry = nil
			grace.Reset(min(k.Haste, j.Grace))
		case <-grace.C:
			log.Warn("role did not stop in time, killing it", logkey.PID, id.PID, logkey.Took, time.Since(asked))
			late = fmt.Errorf("%s: %w", j.Name, ErrKilled)
			if err := id.Signal(unix.SIGKILL); err != nil && !errors.Is(err, ErrGone) {
				return err
			}
		}
	}
}

// SetOOM sets who the kernel kills first when memory ends. Lowering it needs a
// privilege; without it the role keeps what it inherited.
func SetOOM(id ID, score int) {
	os.WriteFile("/proc/"+strconv.Itoa(id.PID)+"/oom_score_adj", []byte(strconv.Itoa(score)), 0)
}

// lower has the process, which leads a group of its own, give way to others.
// What is set for a group is set for every thread that it has by now, and what
// they start inherits it.
func lower(id ID) error {
	const (
		nice       = 10
		bestEffort = 2 // a class of linux/ioprio.h; of its eight levels, 7 is the last to be served
		lastLevel  = 7
		whoGroup   = 2
	)
	if err := unix.Setpriority(unix.PRIO_PGRP, id.PID, nice); err != nil {
		return fmt.Errorf("nice: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, whoGroup, uintptr(id.PID), bestEffort<<13|lastLevel); errno != 0 {
		return fmt.Errorf("ioprio: %w", errno)
	}
	return nil
}

// openLog opens path for appending; a long log is put aside first, one is kept.
func openLog(path string, owner [2]int) (*os.File, error) {
	const flags = os.O_APPEND | os.O_CREATE | os.O_WRONLY | unix.O_NOFOLLOW
	f, err := os.OpenFile(path, flags, 0o640)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", filepath.Dir(path), err)
		}
		return nil, err
	}
	if n, err := f.Seek(0, io.SeekEnd); err == nil && n > logLimit {
		f.Close()
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
		if f, err = os.OpenFile(path, flags, 0o640); err != nil {
			return nil, err
		}
	}
	if owner[0] >= 0 {
		if err := f.Chown(owner[0], owner[1]); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

func describe(s syscall.WaitStatus) string {
	switch {
	case s.Signaled():
		return unix.SignalName(s.Signal())
	case s.Exited():
		return "exit " + strconv.Itoa(s.ExitStatus())
	}
	return fmt.Sprintf("status %#x", uint32(s))
}
