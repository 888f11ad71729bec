// Package silence keeps which alerts are not to be told, in a file beside the store of
// metrics. Who may write there may silence: the store only reads it. For other machines
// the jobs of that machine write (control), for people who look its console.
package silence

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"howdah/nodefile"
	"howdah/observe/notice"
	"howdah/spec"
)

const (
	most      = 1000               // silences at once
	keepEnded = 5 * 24 * time.Hour // as Alertmanager does
)

// ErrMany is said to whoever wants one more than there may be.
var ErrMany = fmt.Errorf("there are %d already", most)

// Path is the file of a node that keeps metrics.
func Path(o spec.Observe) string { return filepath.Join(filepath.Dir(o.Data), "silences.json") }

// Load reads the silences of a file; none where it is not there.
func Load(path string) (all []notice.Silence, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}

// Change has f change the silences of a file, one at a time on this machine. Those that
// ended long ago go.
func Change(path string, now time.Time, f func([]notice.Silence) ([]notice.Silence, error)) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil { // held for as long as it takes to write
		return fmt.Errorf("lock %s: %w", dir.Name(), err)
	}
	info, err := dir.Stat()
	if err != nil {
		return err
	}
	all, err := Load(path)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(s notice.Silence) bool { return now.Sub(s.Ends) > keepEnded })
	if all, err = f(all); err != nil {
		return err
	}
	if len(all) > most {
		return ErrMany
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	uid, gid := -1, -1
	if of, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 { // whose the store is
		uid, gid = int(of.Uid), int(of.Gid)
	}
	return nodefile.WriteFile(path, append(text, '\n'), 0o600, uid, gid)
}
