// Package logbook is what PostgreSQL and our own roles write into their log files,
// understood: bytes become records, records are kept or passed over.
//
// It knows the formats by what a line begins with: PostgreSQL's stderr with our
// log_line_prefix, its csvlog and jsonlog; slog's text and JSON; pgBackRest's.
// Names of fields and levels are those by which log stores know them (Pigsty's
// Vector pipeline). It reads no file. Passwords in what it gives are masked.
// Sources: PostgreSQL's elog.c, csvlog.c and jsonlog.c.
package logbook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Level says how bad it is.
type Level int

// The levels, by syslog's words.
const (
	Debug Level = iota
	Info
	Notice
	Warning
	Err
	Crit
	Emerg
)

// Levels are the words of levels, in their order.
var Levels = []string{"debug", "info", "notice", "warning", "err", "crit", "emerg"}

func (l Level) String() string { return Levels[l] }

// levels are the words of everybody who writes.
var levels = map[string]Level{
	"PANIC": Emerg, "FATAL": Crit, "ERROR": Err, "WARNING": Warning, "NOTICE": Notice, "LOG": Info, "INFO": Info, "DEBUG": Debug,
	"DEBUG1": Debug, "DEBUG2": Debug, "DEBUG3": Debug, "DEBUG4": Debug, "DEBUG5": Debug,
	"WARN": Warning, "DETAIL": Debug, "TRACE": Debug, // of slog and pgBackRest
	"EMERG": Emerg, "CRIT": Crit, "CRITICAL": Crit, "ERR": Err,
}

// ParseLevel knows a level by anybody's word for it.
func ParseLevel(word string) (Level, bool) {
	l, ok := levels[strings.ToUpper(word)]
	return l, ok
}

// levelOf is that of a word that somebody wrote; slog may add to it: "INFO+2".
func levelOf(word string) Level {
	if i := strings.IndexAny(word, "+-"); i > 0 {
		word = word[:i]
	}
	if l, ok := ParseLevel(word); ok {
		return l
	}
	return Info
}

// A Source is where records come from.
type Source struct{ Cluster, Member, IP, Job string }

// A Record is one thing that was logged.
type Record struct {
	Source
	Time    time.Time
	Level   Level
	Message string
	Fields  []Field // besides, in the order in which they were written
}

// A Field is something that a record says besides its message.
type Field struct{ Name, Value string }

// Get is the value of a field, "" if it is not there.
func (r Record) Get(name string) string {
	for _, f := range r.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Names of fields that have a part in more than being shown.
const (
	fieldUser     = "user"
	fieldDatabase = "db"
	fieldPID      = "pid"
	fieldLevel    = "lv"
)

// parts are the fields that are lines of their own for a person, by the words
// that PostgreSQL writes before them. They are part of the contract's message.
var parts = []struct{ field, word string }{
	{"detail", "DETAIL"}, {"hint", "HINT"}, {"iq", "QUERY"}, {"iqp", ""}, {"ctx", "CONTEXT"}, {"q", "STATEMENT"}, {"qp", ""}, {"loc", "LOCATION"},
}

// Text is the record as a person reads it: one line, then those of its parts.
func (r Record) Text() string {
	var b strings.Builder
	b.WriteString(r.Message)
	for _, f := range r.Fields {
		if r.ours() {
			b.WriteString(" " + f.Name + "=" + word(f.Value))
		}
	}
	for _, p := range parts {
		if v := r.Get(p.field); v != "" && p.word != "" && !r.ours() {
			b.WriteString("\n" + p.word + ":  " + v)
		}
	}
	return b.String()
}

// ours says that the record is of one of our roles, whose fields are no columns
// of PostgreSQL's.
func (r Record) ours() bool { return r.Get(fieldLevel) == "" && r.Job != Postgres }

func word(s string) string {
	if s == "" || strings.ContainsAny(s, " =\"\n\t") {
		return strconv.Quote(s)
	}
	return s
}

// messageMax is the longest message that is shipped; the parts have their own fields.
const messageMax = 8192

// duration is how many milliseconds the message says that something took.
func (r Record) duration() (ms float64, ok bool) {
	rest, ok := strings.CutPrefix(r.Message, "duration: ")
	if !ok {
		return 0, false
	}
	text, _, ok := strings.Cut(rest, " ms")
	if !ok {
		return 0, false
	}
	ms, err := strconv.ParseFloat(text, 64)
	return ms, err == nil
}

// reserved are names of what every record has.
var reserved = strings.Fields("_time level message msg job cls ins ip duration")

// message is what log stores show: all that a person would read, in one text.
func (r Record) message() string {
	all := []string{r.Message}
	if r.Get(fieldLevel) != "" {
		for _, p := range parts {
			if v := r.Get(p.field); v != "" {
				all = append(all, v)
			}
		}
	}
	text := strings.Join(all, ",")
	if len(text) > messageMax {
		text = strings.ToValidUTF8(text[:messageMax], "")
	}
	return text
}

// MarshalJSON is the record by the names of log stores. What looks like markup stays
// as it is: it is looked for.
func (r Record) MarshalJSON() ([]byte, error) {
	out := make(map[string]any, len(r.Fields)+8)
	for _, f := range r.Fields {
		name := f.Name
		if slices.Contains(reserved, name) {
			name += "_"
		}
		out[name] = f.Value
	}
	if r.Get(fieldLevel) != "" {
		out["msg"] = r.Message
	}
	out["_time"], out["level"], out["message"] = r.Time.UTC().Format("2006-01-02T15:04:05.000Z07:00"), r.Level.String(), r.message()
	for name, v := range map[string]string{"job": r.Job, "cls": r.Cluster, "ins": r.Member, "ip": r.IP} {
		if v != "" {
			out[name] = v
		}
	}
	if ms, ok := r.duration(); ok {
		out["duration"] = ms
	}
	var b bytes.Buffer
	to := json.NewEncoder(&b)
	to.SetEscapeHTML(false)
	err := to.Encode(out)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// String is one line for tests and their messages.
func (r Record) String() string {
	return fmt.Sprintf("%s %s %s %s %q %v", r.Time.UTC().Format("15:04:05.000"), r.Member, r.Job, r.Level, r.Message, r.Fields)
}
