package control

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"howdah/backup/restore"
	"howdah/problem"
)

// A Moment is what a restore goes to.
type Moment struct {
	Kind  string    `json:"kind"`            // time, lsn, xid, name, immediate, or latest
	Value string    `json:"value,omitempty"` // as PostgreSQL reads it
	At    time.Time `json:"at,omitzero"`     // of a time

	guessed bool // a name, because it is nothing else: nobody said so
}

// Latest is the end of the log.
const Latest = "latest"

// String is the moment in words.
func (t Moment) String() string {
	switch t.Kind {
	case restore.Time:
		return t.At.Local().Format("2006-01-02 15:04:05.999 MST")
	case restore.Immediate:
		return "the end of the backup"
	case Latest:
		return "the end of the log"
	case restore.Name:
		return "restore point " + strconv.Quote(t.Value)
	}
	return t.Kind + " " + t.Value
}

var (
	agoText = regexp.MustCompile(`^(\d+)\s*(s|sec|secs|second|seconds|m|min|mins|minute|minutes|h|hour|hours|d|day|days)\s+ago$`)
	lsnText = regexp.MustCompile(`^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$`)
	xidText = regexp.MustCompile(`^\d+$`)
)

// ParseMoment reads what a person gives for --to: a time (also "10 minutes ago"
// or "14:30"), an LSN, a transaction's number, latest, immediate, or the name of
// a restore point. A word before a colon (time, lsn, xid, name) says which. A
// word that is nothing else is a name only if the log knows it.
func ParseMoment(text string, now time.Time) (Moment, error) {
	wrong := func(why string) (Moment, error) {
		return Moment{}, &problem.Error{
			Code: "restore-target", What: fmt.Sprintf("cannot restore to %q", text), Why: why,
			Do: "give a time like '2026-11-21 14:30:00' or '10 minutes ago', an LSN like 0/3000060, a transaction's number, latest, immediate, or the name of a restore point",
		}
	}
	rest := strings.TrimSpace(text)
	kind, value, said := strings.Cut(rest, ":")
	if said = said && (kind == restore.Time || kind == restore.LSN || kind == restore.XID || kind == restore.Name); said {
		rest = strings.TrimSpace(value)
	} else {
		kind = ""
	}
	is := func(k string) bool { return kind == "" || kind == k }
	at := func(t time.Time) (Moment, error) {
		return Moment{Kind: restore.Time, At: t, Value: t.UTC().Format("2006-01-02 15:04:05.999999+00")}, nil
	}
	switch {
	case rest == "":
		return wrong("it names no moment")
	case kind == "" && (rest == Latest || rest == restore.Immediate):
		return Moment{Kind: rest}, nil
	case is(restore.LSN) && lsnText.MatchString(rest):
		return Moment{Kind: restore.LSN, Value: strings.ToUpper(rest)}, nil
	case is(restore.XID) && xidText.MatchString(rest):
		return Moment{Kind: restore.XID, Value: rest}, nil
	}
	if is(restore.Time) {
		if m := agoText.FindStringSubmatch(strings.ToLower(rest)); m != nil {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				return wrong("that is too long ago")
			}
			unit := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}[m[2][0]]
			return at(now.Add(-time.Duration(n) * unit))
		}
		for _, form := range []string{"15:04:05", "15:04"} {
			if t, err := time.ParseInLocation(form, rest, now.Location()); err == nil {
				return at(time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), now.Location()))
			}
		}
		if t, err := restore.ParseTime(rest); err == nil {
			return at(t)
		}
	}
	if kind == restore.Name || kind == "" && !strings.ContainsAny(rest, " :/") {
		return Moment{Kind: restore.Name, Value: rest, guessed: kind == ""}, nil
	}
	if kind == "" {
		return wrong("it is none of the forms")
	}
	return wrong("that is no " + kind)
}
