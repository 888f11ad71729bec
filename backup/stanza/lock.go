package stanza

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"howdah/backup/repo"
)

// Locks of one machine: files that are locked while their holder lives. Up to
// 2.52 there was one for each stanza and kind, since then one for each
// repository too; we take both, so that every pgBackRest on the machine and we
// exclude each other.

// What a lock is for.
const (
	LockArchive = "archive" // info files of the archive
	LockBackup  = "backup"  // backup, expire, annotate
	LockRestore = "restore"
)

// Locks are held until they are released or the process ends.
type Locks struct {
	files []*os.File
}

// Lock takes locks of the given kinds for a stanza in the repositories keys.
func Lock(dir, stanza string, keys []int, kinds ...string) (*Locks, error) {
	if err := os.MkdirAll(dir, 0o770); err != nil {
		return nil, err
	}
	var names []string
	for _, kind := range kinds {
		names = append(names, stanza+"-"+kind)
		for _, key := range keys {
			names = append(names, stanza+"-"+kind+"-"+strconv.Itoa(key))
		}
	}
	l := &Locks{}
	for _, name := range names {
		if err := l.take(filepath.Join(dir, name+".lock")); err != nil {
			l.Release()
			return nil, err
		}
	}
	return l, nil
}

func (l *Locks) take(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return repo.Errorf(repo.LockAcquire, "unable to acquire lock on file '%s': %w", path, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return repo.Errorf(repo.LockAcquire, "unable to acquire lock on file '%s': %w; is another pgBackRest process running?", path, err)
	}
	// Whoever held it has removed the file: another one may be locked under its name.
	mine, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	if now, err := os.Stat(path); err != nil || !os.SameFile(mine, now) {
		f.Close()
		return l.take(path)
	}
	l.files = append(l.files, f)
	pid := os.Getpid()
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, `{"execId":"%d-00000000","pid":%d}`+"\n", pid, pid)
	return err
}

// Release gives them back; the files go, as pgBackRest leaves none.
func (l *Locks) Release() {
	for _, f := range l.files {
		_ = os.Remove(f.Name())
		_ = f.Close()
	}
	l.files = nil
}

// Held says whether somebody holds a stanza's lock of a kind, and who.
func Held(dir, stanza, kind string) (pid int, held bool) {
	path := filepath.Join(dir, stanza+"-"+kind+".lock")
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return 0, false
	}
	var who struct {
		PID int `json:"pid"`
	}
	data, _ := os.ReadFile(path)
	_ = json.Unmarshal(data, &who)
	return who.PID, true
}

const all = "all"

func stopFile(dir, stanza string) string {
	if stanza == "" {
		stanza = all
	}
	return filepath.Join(dir, stanza+".stop")
}

// Stop forbids commands on a stanza, or on all if it is "".
func Stop(dir, stanza string) error {
	if err := os.MkdirAll(dir, 0o770); err != nil {
		return err
	}
	f, err := os.OpenFile(stopFile(dir, stanza), os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	return f.Close()
}

// Start allows them again; was says whether they had been forbidden.
func Start(dir, stanza string) (was bool, err error) {
	err = os.Remove(stopFile(dir, stanza))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Stopped is an error while commands on a stanza are forbidden.
func Stopped(dir, stanza string) error {
	for _, name := range []string{"", stanza} {
		if _, err := os.Stat(stopFile(dir, name)); err == nil {
			what := "all stanzas"
			if name != "" {
				what = "stanza " + name
			}
			return repo.Errorf(repo.Stopped, "stop file exists for %s", what)
		}
	}
	return nil
}

// Holders are the processes that hold locks of a stanza, or of any if it is "".
func Holders(dir, stanza string) []int {
	list, _ := os.ReadDir(dir)
	var pids []int
	for _, e := range list {
		name, ok := strings.CutSuffix(e.Name(), ".lock")
		if i := strings.LastIndexByte(name, '-'); ok && i > 0 && (stanza == "" || name[:i] == stanza) {
			if pid, held := Held(dir, name[:i], name[i+1:]); held && pid > 0 && !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
