package keep

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"howdah/backup/repo"
	"howdah/nodefile"
	"howdah/pg"
	"howdah/spec"
)

// A State is what a member says of its repository.
type State struct {
	Member  string      `json:"member"`
	Leads   bool        `json:"leads"`
	Mark    string      `json:"mark"` // another one when anything has changed
	Backups []Backup    `json:"backups"`
	Archive Archive     `json:"archive"`
	Hole    string      `json:"hole,omitempty"`  // segment that is missing after the last backup, of the leader
	Lost    []repo.Hole `json:"lost,omitempty"`  // WAL that was given up and that no backup follows yet, of the leader
	Holes   []repo.Hole `json:"holes,omitempty"` // that are recorded in the repository, and into which a backup leads
	Running *Run        `json:"running,omitempty"`
	Failed  *Failure    `json:"failed,omitempty"` // what last came to nothing, until it succeeds
	Next    string      `json:"next,omitempty"`   // when the schedule asks for the next, of the leader
	Unwell  string      `json:"unwell,omitempty"` // why nothing can be said of the repository
	Empty   bool        `json:"empty,omitempty"`  // that is why: nothing was put there yet, as where a member keeps no copy
	System  string      `json:"system,omitempty"` // identifier of the database that it is of
	Newest  string      `json:"newest,omitempty"` // the last segment in the archive
	Oldest  string      `json:"oldest,omitempty"` // the first
	Path    string      `json:"path,omitempty"`   // of the repository, on that member
	Bucket  string      `json:"bucket,omitempty"` // where it is, if all members share it: then only the leader says what it has

	Archived string   `json:"archived,omitempty"` // LSN up to where the leader's WAL is in the archive
	Streamed Streamed `json:"streamed,omitzero"`  // up to where it is in the repository, archived or not; zero: not beyond the archive
	Drill    *Drill   `json:"drill,omitempty"`    // the last that was made beside this member

	Repository string  `json:"repository,omitempty"` // its name in the inventory, where it is one of several
	Also       []State `json:"also,omitempty"`       // what the member says of the others

	Drilling time.Time `json:"drilling,omitzero"`  // since when one is made here
	DrillDue time.Time `json:"drill_due,omitzero"` // when the next is due, of the leader; zero: never
	Free     int64     `json:"free"`               // bytes that one may take here
}

// Reaches says how far the log is in the repository, as text that sorts: a later
// timeline is further.
func (s State) Reaches() string {
	if s.Streamed.Segment <= s.Newest {
		return s.Newest
	}
	lsn, _ := pg.ParseLSN(s.Streamed.LSN) // zero is not far
	return fmt.Sprintf("%s %016X", s.Streamed.Segment, uint64(lsn))
}

// of is what is said of a repository like a member's own; without Member: nothing.
func (s State) of(b spec.Backup) State {
	bucket := ""
	if b.Shared() {
		bucket = b.Bucket.String()
	}
	for _, one := range append([]State{s}, s.Also...) {
		if one.Bucket == bucket && (one.Repository == "" || b.Name == "" || one.Repository == b.Name) {
			one.Also = nil
			return one
		}
	}
	return State{}
}

// A Backup is one that is complete.
type Backup struct {
	Label     string    `json:"label"`
	Type      repo.Type `json:"type"`
	Prior     string    `json:"prior,omitempty"`
	Start     time.Time `json:"start"`
	Stop      time.Time `json:"stop"`
	LSNStart  string    `json:"lsn_start"`
	LSNStop   string    `json:"lsn_stop"`
	Size      int64     `json:"size"`       // bytes of the cluster
	Stored    int64     `json:"stored"`     // bytes that it takes by itself
	Segments  [2]string `json:"segments"`   // WAL without which it is none: first and last
	PageError bool      `json:"page_error"` // pages had a wrong checksum
}

func backupOf(b repo.Backup) Backup {
	return Backup{
		Label: b.Label, Type: b.Type, Prior: b.Prior, Start: time.Unix(b.Start, 0).UTC(), Stop: time.Unix(b.Stop, 0).UTC(),
		LSNStart: b.LSNStart, LSNStop: b.LSNStop, Size: b.Size, Stored: b.RepoDelta,
		Segments: [2]string{b.ArchiveStart, b.ArchiveStop}, PageError: b.Error != nil && *b.Error,
	}
}

// Archive is how the server's archiver keeps up. Only a leader's has anything to do.
type Archive struct {
	Pending int       `json:"pending"`        // segments that wait
	Bytes   int64     `json:"bytes"`          // of them
	Since   time.Time `json:"since,omitzero"` // since when the oldest waits
}

// stuckAfter is how long a segment may wait before that is worth a word: the
// archiver itself begins anew after a minute.
const stuckAfter = 90 * time.Second

// Stuck says that the archiver does not get on.
func (a Archive) Stuck(now time.Time) bool { return a.Pending > 0 && now.Sub(a.Since) > stuckAfter }

// A Run is a backup or a copy that is being made.
type Run struct {
	Does  string    `json:"does"` // "full backup", "copy from demo-1"
	Why   string    `json:"why"`
	Began time.Time `json:"began"`
	Done  int64     `json:"done"`            // bytes that were read
	Total int64     `json:"total"`           // 0: not known yet
	Waits string    `json:"waits,omitempty"` // what it waits for; "": it gets on
}

// A Failure is an attempt that came to nothing.
type Failure struct {
	Does  string    `json:"does"`
	At    time.Time `json:"at"`
	Error string    `json:"error"`
}

// A Report is one line of the answer to whoever asked for a backup: how it goes,
// and at last how it ended.
type Report struct {
	Run    *Run    `json:"run,omitempty"`
	Backup *Backup `json:"backup,omitempty"`
	Error  string  `json:"error,omitempty"`
}

// A Flushed is how far the log went when it was brought into the archive.
type Flushed struct {
	LSN     string    `json:"lsn"`
	Segment string    `json:"segment"`
	At      time.Time `json:"at"` // whatever was committed before is archived
}

// Verdicts of a drill.
const (
	Passed = "passed"
	Failed = "failed" // the backup, or its WAL: it does not lead back to the cluster
	Broke  = "broke"  // the drill: of the backup it says nothing
)

// A Drill is a restore that was rehearsed: what came of it, and how long it took.
type Drill struct {
	Began    time.Time     `json:"began"`
	Verdict  string        `json:"verdict"`
	Why      string        `json:"why,omitempty"` // of one that did not pass
	Backup   string        `json:"backup"`
	From     string        `json:"from"` // whose repository, or which bucket
	To       string        `json:"to"`   // the moment
	Bytes    int64         `json:"bytes"`
	Restored time.Duration `json:"restored_ns"` // how long the files took
	Replayed time.Duration `json:"replayed_ns"` // and then the log, up to a server that answers
	Checked  time.Duration `json:"checked_ns"`  // and then the looking, which a restore in earnest does not wait for
	LSN      string        `json:"lsn,omitempty"`
	Commit   time.Time     `json:"commit,omitzero"` // the last that was there
	Checks   []Check       `json:"checks"`

	Unasked  bool          `json:"unasked,omitempty"` // the schedule wanted it: it took what was there
	Exposure time.Duration `json:"exposure_ns"`       // how old what it brought back was at most when it began
	Missing  int64         `json:"exposure_bytes"`    // bytes of log that the leader had then and that were not brought back

	Said  time.Time `json:"last_verdict,omitzero"` // when the last one began that passed or failed, this or a former one
	Last  time.Time `json:"last_passed,omitzero"`  // when the last one that passed began, this or a former one
	Wrong string    `json:"wrong,omitempty"`       // what one found that failed, since one passed
}

// A Check is one thing that was looked at.
type Check struct {
	What string `json:"what"`
	Said string `json:"said"`
}

// said is when the last one began that said something of a backup, this or a former one.
func (d *Drill) said() time.Time {
	if d.Said.IsZero() && d.Verdict != Broke {
		return d.Began // it was recorded before that was
	}
	return d.Said
}

// drillPath is where a member keeps the last.
func drillPath(n spec.Node) string { return filepath.Join(n.Paths.Dir, "drill.json") }

// LastDrill reads it; nil: there was none.
func LastDrill(n spec.Node) (*Drill, error) {
	text, err := os.ReadFile(drillPath(n))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d := &Drill{}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, fmt.Errorf("%s: %w", drillPath(n), err)
	}
	return d, nil
}

// Record keeps a drill as the member's last. When one passed it remembers, and
// since then what one found that failed.
func (d *Drill) Record(n spec.Node, uid, gid int) error {
	was, err := LastDrill(n)
	if err != nil || was == nil {
		was = &Drill{} // what can not be read is overwritten
	}
	switch d.Verdict {
	case Passed:
		d.Last, d.Said = d.Began, d.Began
	case Failed:
		d.Said = d.Began
		d.Last, d.Wrong = was.Last, fmt.Sprintf("backup %s of %s, tried at %s: %s", d.Backup, d.From, d.Began.UTC().Format(time.RFC3339), d.Why)
	default:
		d.Last, d.Said, d.Wrong = was.Last, was.said(), was.Wrong
	}
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	return nodefile.WriteFile(drillPath(n), append(text, '\n'), 0o644, uid, gid)
}
