// Package admin is the pooler's console, the database "pgbouncer": what may be
// asked there, who may ask it, and the answers in the protocol's messages.
//
// It knows the pooler only by Facts, a plain value that the pooler fills when
// somebody asks, and changes nothing: a command that it finds allowed is for the
// pooler to carry out. The metrics of the pooler are made of the same facts.
// Commands, columns, their types, tags and errors are PgBouncer's, of the version
// that Version names; new columns would come last. Sources: PgBouncer's
// src/admin.c, src/stats.c, doc/usage.md.
package admin

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"howdah/pgwire"
)

// Database is the console's name.
const Database = "pgbouncer"

// Version is what exporters are told: it says which columns there are.
const Version = "1.25.2"

// A Verb is what a command does.
type Verb string

// The verbs. Those that answer by themselves are Show and Help.
const (
	Show       Verb = "SHOW"
	Set        Verb = "SET"
	Reload     Verb = "RELOAD"
	Pause      Verb = "PAUSE"
	Resume     Verb = "RESUME"
	Disable    Verb = "DISABLE"
	Enable     Verb = "ENABLE"
	Reconnect  Verb = "RECONNECT"
	Kill       Verb = "KILL"
	KillClient Verb = "KILL_CLIENT"
	Suspend    Verb = "SUSPEND"
	Shutdown   Verb = "SHUTDOWN"
	WaitClose  Verb = "WAIT_CLOSE"
)

// A Command is one that was understood.
type Command struct {
	Verb Verb
	// Arg is a database, "" for all; of SHOW what, in lower case; of SET the key;
	// of SHUTDOWN "", WAIT_FOR_SERVERS or WAIT_FOR_CLIENTS.
	Arg    string
	Value  string // of SET
	Client uint64 // of KILL_CLIENT: the id in SHOW CLIENTS
}

// Tag is what the answer to c ends with, once it is done.
func (c Command) Tag() string {
	switch {
	case c.Verb == Set && courtesy(c.Arg) != nil:
		return "SET"
	case c.Verb == Set:
		return "SET " + c.Arg + "=" + c.Value
	}
	return string(c.Verb)
}

// An Error is an answer. It ends the command, not the session.
type Error struct{ Code, Message string }

func (e *Error) Error() string { return e.Message }

// violation is the SQLSTATE of nearly all that the console refuses.
const violation = "08P01"

func failed(format string, args ...any) *Error {
	return &Error{violation, fmt.Sprintf(format, args...)}
}

// ErrReload is the answer to a RELOAD that found its files broken.
var ErrReload = &Error{"F0000", "RELOAD failed, see logs for additional details"}

// ErrSet is the answer to a SET of what is no setting, or to no value of it.
var ErrSet = failed("SET failed")

// The grammar, and the lengths that PgBouncer has room for.
const (
	ws0  = `[ \t\n\r]*`
	ws1  = `[ \t\n\r]+`
	word = `("(?:[^"]+|"")*"|[0-9a-z_]+)`
	text = `('(?:[^']|'')*')`

	verbMax  = 15
	argMax   = 63
	valueMax = 255
	queryMax = 1000 // of a query in an error
)

var (
	normal = regexp.MustCompile(`(?is)^` + ws0 + word + `(?:` + ws1 + word + `)?` + ws0 + `(?:;` + ws0 + `)?$`)
	setTo  = regexp.MustCompile(`(?is)^` + ws0 + `set` + ws1 + word + ws0 + `(?:=|to)` + ws0 + `(?:` + text + `|` + word + `)` + ws0 + `(?:;` + ws0 + `)?$`)
)

// Parse reads a query of the simple protocol.
func Parse(query string) (Command, error) {
	if m := normal.FindStringSubmatch(query); m != nil {
		if len(m[1]) > verbMax || len(m[2]) > argMax {
			return Command{}, failed("bad arguments")
		}
		return command(query, unquote(m[1]), unquote(m[2]))
	}
	if m := setTo.FindStringSubmatch(query); m != nil {
		value := m[2] + m[3]
		if len(m[1]) > argMax || len(value) > valueMax || unquote(m[1]) == "" {
			return Command{}, failed("bad arguments")
		}
		return Command{Verb: Set, Arg: unquote(m[1]), Value: unquote(value)}, nil
	}
	return Command{}, unknown(query)
}

func command(query, verb, arg string) (Command, error) {
	c := Command{Verb: Verb(strings.ToUpper(verb)), Arg: arg}
	switch c.Verb {
	case "SELECT", Show:
		c.Verb, c.Arg = Show, strings.ToLower(arg)
		if views[c.Arg] == nil && courtesy(c.Arg) == nil && c.Arg != "help" && c.Arg != "fds" {
			return Command{}, unknown(query)
		}
	case Reload, Suspend:
		if arg != "" {
			return Command{}, unknown(query)
		}
	case Shutdown:
		c.Arg = strings.ToUpper(arg)
		if c.Arg != "" && c.Arg != "WAIT_FOR_SERVERS" && c.Arg != "WAIT_FOR_CLIENTS" {
			return Command{}, unknown(query)
		}
	case KillClient:
		// A wrong number is told to admins only: Check comes first.
		c.Client, _ = strconv.ParseUint(strings.TrimSpace(arg), 10, 64)
	case Pause, Resume, Disable, Enable, Reconnect, Kill, WaitClose:
	default:
		return Command{}, unknown(query)
	}
	return c, nil
}

func unknown(query string) *Error {
	if len(query) > queryMax {
		query = query[:queryMax]
	}
	return failed("invalid command '%s', use SHOW HELP;", query)
}

// unquote takes the quotes from a word or a text, and the doubled ones inside.
func unquote(s string) string {
	for _, q := range []string{`"`, `'`} {
		if len(s) >= 2 && strings.HasPrefix(s, q) {
			return strings.ReplaceAll(s[1:len(s)-1], q+q, q)
		}
	}
	return s
}

// Check says what speaks against c, in the order in which PgBouncer looks: who
// asks, then the state of the pooler.
func (c Command) Check(f Facts, isAdmin bool) error {
	if c.Verb == Show && c.Arg != "fds" || c.Verb == Set && courtesy(c.Arg) != nil {
		return nil
	}
	if !isAdmin {
		return failed("admin access needed")
	}
	db, known := f.database(c.Arg)
	switch c.Verb {
	case Show:
		return failed("SHOW FDS is not supported: sockets are handed over by the supervisor")
	case Suspend:
		switch {
		case f.Mode != Running:
			return failed("already suspended/paused")
		case f.anyPaused():
			return failed("cannot suspend with paused databases")
		}
	case Pause, Kill:
		switch {
		case f.Mode != Running:
			return failed("already suspended/paused")
		case c.Arg != "" && !known:
			return failed("no such database: %s", c.Arg)
		case c.Arg == Database:
			return failed("cannot %s admin db: %s", strings.ToLower(string(c.Verb)), c.Arg)
		}
	case Resume:
		switch {
		case c.Arg == "" && f.ShuttingDown:
			return failed("pooler is shutting down")
		case c.Arg == "" && f.Mode == Running:
			return failed("pooler is not paused/suspended")
		case c.Arg != "" && db == nil && c.Arg != Database:
			return failed("no such database: %s", c.Arg)
		case c.Arg != "" && (db == nil || !db.Paused):
			return failed("database %s is not paused", c.Arg)
		}
	case Disable, Enable:
		switch {
		case c.Arg == "":
			return failed("a database is required")
		case !known:
			return failed("no such database: %s", c.Arg)
		case c.Arg == Database:
			return failed("cannot %s admin db: %s", strings.ToLower(string(c.Verb)), c.Arg)
		}
	case Reconnect, WaitClose:
		switch {
		case c.Arg != "" && !known:
			return failed("no such database: %s", c.Arg)
		case c.Arg == Database && c.Verb == Reconnect:
			return failed("cannot reconnect admin db: %s", c.Arg)
		case c.Arg == Database:
			return failed("cannot wait in admin db: %s", c.Arg)
		}
	case KillClient:
		switch {
		case c.Client == 0:
			return failed("invalid client pointer supplied")
		case !f.hasClient(c.Client):
			return failed("client not found")
		}
	}
	return nil
}

// AppendError appends an answer that is an error; the session goes on.
func AppendError(b []byte, err error) []byte {
	e, ok := err.(*Error)
	if !ok {
		e = failed("%v", err)
	}
	b = pgwire.AppendReport(b, pgwire.ErrorResponse, pgwire.Report{Severity: "ERROR", Code: e.Code, Message: e.Message})
	return pgwire.AppendReady(b, 'I')
}

// AppendDone appends the answer to a command that the pooler has carried out.
func AppendDone(b []byte, c Command) []byte {
	if c.Verb == Set && courtesy(c.Arg) != nil {
		b = pgwire.AppendReport(b, pgwire.NoticeResponse, pgwire.Report{Severity: "NOTICE", Code: "00000", Message: "SET ignored"})
	}
	return pgwire.AppendReady(pgwire.AppendComplete(b, c.Tag()), 'I')
}

// AppendForeign appends the answer to a message of another type than Query,
// after which the session ends.
func AppendForeign(b []byte, kind byte) []byte {
	message := fmt.Sprintf("unsupported packet type for admin console: %d", kind)
	if strings.IndexByte("PBE", kind) >= 0 {
		message = "extended query protocol not supported by admin console"
	}
	b = AppendError(b, failed("%s", message))
	return pgwire.AppendError(b, violation, "bad packet", "")
}

// AppendWelcome appends what whoever logged in to the console hears first; key
// is the body of BackendKeyData.
func AppendWelcome(b []byte, key pgwire.Key) []byte {
	b = pgwire.AppendAuth(b, pgwire.AuthOK)
	for _, s := range [][2]string{
		{"server_version", Version + "/bouncer"},
		{"client_encoding", "UTF8"},
		{"server_encoding", "UTF8"},
		{"DateStyle", "ISO"},
		{"TimeZone", "GMT"},
		{"standard_conforming_strings", "on"},
		{"is_superuser", "on"},
	} {
		b = pgwire.AppendStatus(b, s[0], s[1])
	}
	b = pgwire.AppendMessage(b, pgwire.BackendKeyData, string(key))
	return pgwire.AppendReady(b, 'I')
}
