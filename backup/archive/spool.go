package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"howdah/backup/repo"
	"howdah/backup/stanza"
)

// A Spool is where those who work ahead of PostgreSQL leave what they did for its
// commands: notes of files that were pushed, segments that it will ask for. It is
// pgBackRest's spool directory of one stanza, with that program's notes.
type Spool struct{ Dir string }

// SpoolOf is a stanza's spool below spool-path.
func SpoolOf(path, stanza string) Spool { return Spool{filepath.Join(path, "archive", stanza)} }

const (
	noteOK    = ".ok"
	noteError = ".error"
	global    = "global" // the name of a note that is about all files
)

// Out is where notes of pushed files are, In where fetched segments are.
func (s Spool) Out() string { return filepath.Join(s.Dir, "out") }

// In is where segments lie that were fetched ahead.
func (s Spool) In() string { return filepath.Join(s.Dir, "in") }

// part is where notes are of files that lie in one of several repositories: by its
// place, for a number may be another one's by the next time.
func (s Spool) part(at *stanza.Stanza) string { return filepath.Join(s.Dir, "parts", at.Mark()) }

// Has says that it is noted that the file at path lies in a repository.
func (s Spool) Has(at *stanza.Stanza, path string) bool {
	done, _, _ := noted(s.part(at), path)
	return done
}

// Remove removes all of it.
func (s Spool) Remove() error { return os.RemoveAll(s.Dir) }

// Pushed says whether the file at path lies in every repository, and which warning
// was noted with that; or what kept it from it. A note that is older than the file
// is of another one that had the name.
func (s Spool) Pushed(path string) (done bool, warning string, err error) {
	name := filepath.Base(path)
	if done, warning, err := noted(s.Out(), path); done || err != nil {
		return done, warning, err
	}
	for _, name := range []string{name, global} {
		text, err := os.ReadFile(filepath.Join(s.Out(), name+noteError))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, "", err
		}
		code, message, _ := strings.Cut(string(text), "\n")
		class, err := strconv.Atoi(code)
		if err != nil {
			class = int(repo.BadFormat)
		}
		return false, "", repo.Errorf(repo.Class(class), "%s", strings.TrimSpace(message))
	}
	return false, "", nil
}

// noted says whether it is noted in dir that the file at path was pushed, and with
// which warning. A note that is older than the file is of another one.
func noted(dir, path string) (done bool, warning string, err error) {
	at := filepath.Join(dir, filepath.Base(path)+noteOK)
	note, err := os.Stat(at)
	if err != nil {
		return false, "", nil
	}
	file, err := os.Stat(path)
	if err != nil || file.ModTime().After(note.ModTime()) {
		return false, "", nil
	}
	text, err := os.ReadFile(at)
	_, warning, _ = strings.Cut(string(text), "\n")
	return err == nil, strings.TrimSpace(warning), err
}

// okText is the note of a file that was pushed.
func okText(warning string) string {
	if warning == "" {
		return ""
	}
	return "0\n" + warning
}

// noted says that the file was pushed, with a warning if there was one.
func (s Spool) noted(name, warning string) error {
	if err := note(s.Out(), name+noteOK, okText(warning)); err != nil {
		return err
	}
	return s.Forget(name)
}

// Failed notes why a file was not pushed; name "" says it of all.
func (s Spool) Failed(name string, why error) error {
	if name == "" {
		name = global
	}
	return note(s.Out(), name+noteError, fmt.Sprintf("%d\n%s", repo.ClassOf(why), why))
}

// Forget removes what was noted of a file's last attempt.
func (s Spool) Forget(name string) error {
	for _, name := range []string{name, global} {
		if err := os.Remove(filepath.Join(s.Out(), name+noteError)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// note writes a small file whole. It need not last: what is not noted is pushed
// again, and seen to be there.
func note(dir, name, text string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+tempSuffix, []byte(text), 0o640); err != nil {
		return err
	}
	return os.Rename(path+tempSuffix, path)
}

const tempSuffix = ".pgbackrest.tmp"

// move renames a file, or copies it where that is another file system.
func move(from, to string) error {
	err := os.Rename(from, to)
	if !errors.Is(err, unix.EXDEV) {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	temp := to + tempSuffix
	defer os.Remove(temp)
	out, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(temp, to), os.Remove(from))
}
