package logbook

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Jobs that a line itself may name.
const (
	Postgres   = "postgres"
	PgBackRest = "pgbackrest"
)

// longest is the longest record; what is longer is cut.
const longest = 1 << 20

// A Parser makes records of the bytes of one file, as they come. Its zero value
// begins at the beginning of a file.
type Parser struct {
	Source
	Middle bool           // the bytes begin anywhere: what stands before the first record is passed over
	Zone   *time.Location // of times that name a zone other than UTC; nil: UTC

	rest    []byte  // no whole record yet
	pending *Record // more lines may belong to it
	part    int     // of its fields, to which the last line belonged; -1: the message
	raw     bool    // it is nobody's format
	last    time.Time

	line0, line1 int64 // where the line that is looked at begins and ends, in what was fed
	told         int64
}

// Told is how many of the bytes that were fed belong to records that were told, or
// to nothing: a parser that begins there tells the others. While a record is told,
// it is counted already.
func (p *Parser) Told() int64 { return p.told }

// take looks at the next line, which with its end has n bytes.
func (p *Parser) take(line string, n int, tell func(Record)) {
	p.line1 = p.line0 + int64(n)
	p.line(line, tell)
	p.ended()
	if p.pending == nil {
		p.told = p.line0
	}
}

// ended says that nothing of the line that is looked at is still to come.
func (p *Parser) ended() { p.line0 = p.line1 }

// Feed tells the records that b completes. What may go on is told by the next
// Feed, or by End when nothing came for a while.
func (p *Parser) Feed(b []byte, tell func(Record)) {
	if len(p.rest) > 0 {
		p.rest = append(p.rest, b...)
		b = p.rest
	}
	for {
		n := bytes.IndexByte(b, '\n')
		switch {
		case n < 0 && len(b) > longest:
			p.take(string(b[:longest]), longest, tell)
			b = b[longest:]
			continue
		case n < 0:
			p.rest = append(p.rest[:0], b...)
			return
		}
		if stampedRow(b[:n]) {
			switch row, ok := rowEnd(b[:min(len(b), longest)]); {
			case ok:
				n = row
			case len(b) < longest: // else it was cut, and is taken for what it is
				p.rest = append(p.rest[:0], b...)
				return
			}
		}
		p.take(string(b[:n]), n+1, tell)
		b = b[n+1:]
	}
}

// End tells what is pending: nothing more belongs to it.
func (p *Parser) End(tell func(Record)) {
	if r := p.pending; r != nil {
		p.pending, p.told = nil, p.line0
		tell(r.masked())
	}
}

// Finish tells what is left when no more bytes will come.
func (p *Parser) Finish(tell func(Record)) {
	rest := string(p.rest)
	p.rest = nil
	for line := range strings.Lines(rest) {
		p.take(strings.TrimSuffix(line, "\n"), len(line), tell)
	}
	p.End(tell)
}

// rowEnd is where the row of csvlog ends that b begins with: at the first end of
// a line that is not within quotes.
func rowEnd(b []byte) (at int, ok bool) {
	for quotes := 0; ; at++ {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 0 {
			return 0, false
		}
		quotes += bytes.Count(b[at:at+n], []byte{'"'})
		if at += n; quotes%2 == 0 {
			return at, true
		}
	}
}

// stampedRow says that a line begins with a time and a comma.
func stampedRow(b []byte) bool {
	if len(b) < 20 || b[4] != '-' || b[10] != ' ' || b[13] != ':' {
		return false
	}
	head := b[:min(len(b), 40)]
	if i := bytes.IndexByte(head, ','); i > 0 {
		_, rest, ok := stamp(string(head[:i+1]), time.UTC)
		return ok && rest == ","
	}
	return false
}

// stamp reads the time that a line begins with: 2026-11-22 03:00:00.123 UTC; the
// fraction and the zone may be missing.
func stamp(s string, zone *time.Location) (at time.Time, rest string, ok bool) {
	const seconds = "2006-01-02 15:04:05"
	if len(s) < len(seconds) {
		return at, s, false
	}
	var n [6]int
	for i, from := range []int{0, 5, 8, 11, 14, 17} {
		width := 2
		if i == 0 {
			width = 4
		}
		for _, c := range []byte(s[from : from+width]) {
			if c < '0' || c > '9' {
				return at, s, false
			}
			n[i] = n[i]*10 + int(c-'0')
		}
	}
	if s[4] != '-' || s[7] != '-' || s[10] != ' ' || s[13] != ':' || s[16] != ':' || n[1] > 12 || n[2] > 31 || n[3] > 23 || n[4] > 59 || n[5] > 60 {
		return at, s, false
	}
	at = time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], 0, time.UTC)
	rest = s[len(seconds):]
	if strings.HasPrefix(rest, ".") {
		i := 1
		unit := 100 * time.Millisecond
		for ; i < len(rest) && rest[i] >= '0' && rest[i] <= '9'; i++ {
			at = at.Add(time.Duration(rest[i]-'0') * unit)
			unit /= 10
		}
		rest = rest[i:]
	}
	i := 1
	for i < len(rest) && rest[0] == ' ' && (rest[i] >= 'A' && rest[i] <= 'Z' || rest[i] == '+' || rest[i] == '-' || i > 1 && rest[i] >= '0' && rest[i] <= '9') {
		i++
	}
	// A word of capitals may also be the beginning of what follows: P00, LOG.
	if i > 2 && i <= 6 && (i == len(rest) || rest[i] == ' ' || rest[i] == ',') && !(rest[1] == 'P' && rest[2] >= '0' && rest[2] <= '9') {
		if name := rest[1:i]; name != "UTC" && name != "GMT" && zone != nil {
			if local, err := time.ParseInLocation(seconds+" MST", s[:len(seconds)]+" "+name, zone); err == nil {
				at = local.Add(time.Duration(at.Nanosecond()))
			}
		}
		rest = rest[i:]
	}
	return at, rest, true
}

// line takes one line, or one row of csvlog.
func (p *Parser) line(s string, tell func(Record)) {
	s = strings.TrimSuffix(s, "\r")
	if at, rest, ok := stamp(s, p.zone()); ok {
		p.Middle = false
		p.stamped(at, rest, tell)
		return
	}
	switch {
	case strings.HasPrefix(s, "time="):
		if r, ok := p.slog(s); ok {
			p.begin(r, tell)
			return
		}
	case strings.HasPrefix(s, "{"):
		if r, ok := p.json(s); ok {
			p.begin(r, tell)
			return
		}
	}
	p.more(s, tell)
}

func (p *Parser) zone() *time.Location {
	if p.Zone == nil {
		return time.UTC
	}
	return p.Zone
}

// begin is the beginning of r, which may go on.
func (p *Parser) begin(r Record, tell func(Record)) {
	p.End(tell)
	p.Middle = false
	p.pending, p.part, p.raw, p.last = &r, -1, false, r.Time
}

// more is a line that nothing tells apart: it goes on with the record before it, or
// is what some program wrote to the same place.
func (p *Parser) more(s string, tell func(Record)) {
	r := p.pending
	fatal := strings.HasPrefix(s, "panic: ") || strings.HasPrefix(s, "fatal error: ")
	// PostgreSQL puts a tab before every line of a text but its first.
	continues := strings.HasPrefix(s, "\t") || strings.HasPrefix(s, " ") || p.raw && p.Job != Postgres && !fatal
	switch {
	case p.Middle:
	case r != nil && continues && r.size() < longest:
		s = "\n" + strings.TrimPrefix(s, "\t")
		if p.part < 0 {
			r.Message += s
		} else {
			r.Fields[p.part].Value += s
		}
	case strings.TrimSpace(s) == "":
	default:
		r := Record{Source: p.Source, Time: p.last, Level: Info, Message: s}
		if fatal {
			r.Level = Crit
		}
		p.begin(r, tell)
		p.raw = true
		if strings.HasPrefix(s, "SCHED ") { // of a Go program that was asked for it
			p.pending.Level = Debug
			p.ended()
			p.End(tell)
		}
	}
}

func (r *Record) size() int {
	n := len(r.Message)
	for _, f := range r.Fields {
		n += len(f.Value)
	}
	return n
}

// stamped is a line that begins with a time: a row of csvlog, a line of PostgreSQL's
// stderr, or one of pgBackRest.
func (p *Parser) stamped(at time.Time, rest string, tell func(Record)) {
	if row, ok := strings.CutPrefix(rest, ","); ok {
		if r, ok := p.row(at, row); ok {
			p.begin(r, tell)
			p.ended() // a row has its end
			p.End(tell)
		}
		return
	}
	rest = strings.TrimPrefix(rest, " ")
	r := Record{Source: p.Source, Time: at, Level: Info, Message: rest}
	switch {
	case strings.HasPrefix(rest, "["):
		head, said, ok := p.stderr(&r, rest)
		if !ok {
			break
		}
		if i := slices.IndexFunc(parts, func(x struct{ field, word string }) bool { return x.word == head }); i >= 0 {
			if p.pending == nil || p.pending.Get(fieldPID) != r.Get(fieldPID) {
				p.End(tell)
				p.Middle = true // what it is a part of is not there
				return
			}
			p.pending.Fields = append(p.pending.Fields, Field{parts[i].field, said})
			p.part = len(p.pending.Fields) - 1
			return
		}
		r.Level, r.Message = levelOf(head), said
		r.Fields = append(r.Fields, Field{fieldLevel, head})
	case strings.HasPrefix(rest, "P") && len(rest) > 3:
		process, text, _ := strings.Cut(rest, " ")
		text = strings.TrimLeft(text, " ")
		if head, said, ok := strings.Cut(text, ": "); ok && isWord(head) {
			r.Job, r.Level, r.Message = PgBackRest, levelOf(head), said
			r.Fields = append(r.Fields, Field{"process", process})
		}
	}
	p.begin(r, tell)
}

// stderr reads what stands behind the time by our log_line_prefix, which is
// "%m [%p] %q%u@%d ", or the default one, "%m [%p] ". A user's name may hold an @,
// which then is taken for the end of it; a database's may not be told from that.
func (p *Parser) stderr(r *Record, rest string) (head, said string, ok bool) {
	pid, rest, ok := strings.Cut(rest[1:], "] ")
	if _, err := strconv.ParseUint(pid, 10, 32); !ok || err != nil {
		return "", "", false
	}
	who, said, ok := strings.Cut(rest, ":  ")
	if !ok {
		return "", "", false
	}
	if i := strings.LastIndexByte(who, ' '); i >= 0 {
		head, who = who[i+1:], who[:i]
	} else {
		head, who = who, ""
	}
	if !isWord(head) {
		return "", "", false
	}
	if user, database, ok := strings.Cut(who, "@"); ok {
		r.Fields = append(r.Fields, Field{fieldUser, user}, Field{fieldDatabase, database})
	}
	r.Fields = append(r.Fields, Field{fieldPID, pid})
	return head, said, true
}

func isWord(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// columns are those of csvlog behind the time, by the names of log stores; older
// servers have fewer.
var columns = strings.Fields("user db pid addr sid sln cmd stime vxid txid lv code msg detail hint iq iqp ctx q qp loc app btype lpid query")

// fewest is how many columns a row has at least, with its time: those of PostgreSQL 9.0.
const fewest = 23

func (p *Parser) row(at time.Time, s string) (Record, bool) {
	r := Record{Source: p.Source, Time: at, Level: Info}
	r.Job = Postgres
	r.Fields = make([]Field, 0, len(columns))
	n := 1
	for more := true; more; n++ {
		var value string
		value, s, more = cell(s)
		switch {
		case n > len(columns):
		case columns[n-1] == "msg":
			r.Message = value
		case value != "":
			if r.Fields = append(r.Fields, Field{columns[n-1], value}); columns[n-1] == fieldLevel {
				r.Level = levelOf(value)
			}
		}
	}
	return r, n >= fewest
}

// cell is the first value of a row, and what follows its comma if there is one.
func cell(s string) (value, rest string, more bool) {
	if !strings.HasPrefix(s, `"`) {
		return strings.Cut(s, ",")
	}
	s = s[1:]
	for end := 0; ; end += 2 {
		i := strings.IndexByte(s[end:], '"')
		if i < 0 {
			return unquote(s), "", false // it was cut
		}
		if end += i; end+1 == len(s) || s[end+1] != '"' {
			value = unquote(s[:end])
			_, rest, more = strings.Cut(s[end+1:], ",")
			return value, rest, more
		}
	}
}

func unquote(s string) string {
	if strings.Contains(s, `""`) {
		return strings.ReplaceAll(s, `""`, `"`)
	}
	return s
}

// slog reads a line of log/slog's text handler.
func (p *Parser) slog(s string) (Record, bool) {
	r := Record{Source: p.Source, Level: Info, Time: p.last}
	for s != "" {
		key, rest, ok := strings.Cut(s, "=")
		if !ok {
			return r, false
		}
		var value string
		if strings.HasPrefix(rest, `"`) {
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return r, false
			}
			if value, err = strconv.Unquote(quoted); err != nil {
				return r, false
			}
			s = strings.TrimPrefix(rest[len(quoted):], " ")
		} else {
			value, s, _ = strings.Cut(rest, " ")
		}
		if unquoted, err := strconv.Unquote(key); err == nil {
			key = unquoted
		}
		r.take(key, value)
	}
	return r, true
}

// take takes what one of our roles says.
func (r *Record) take(key, value string) {
	switch key {
	case "time":
		if at, err := time.Parse(time.RFC3339Nano, value); err == nil {
			r.Time = at.UTC()
		}
	case "level":
		r.Level = levelOf(value)
	case "msg":
		r.Message = value
	case "cluster", "member": // of the source, which has them already
		if r.Source.Cluster == value || r.Source.Member == value {
			return
		}
		fallthrough
	default:
		r.Fields = append(r.Fields, Field{key, value})
	}
}

// ofJSON are the names of jsonlog's keys.
var ofJSON = map[string]string{
	"user": "user", "dbname": "db", "pid": "pid", "session_id": "sid", "line_num": "sln", "ps": "cmd", "session_start": "stime",
	"vxid": "vxid", "txid": "txid", "error_severity": "lv", "state_code": "code", "message": "msg", "detail": "detail", "hint": "hint",
	"internal_query": "iq", "internal_position": "iqp", "context": "ctx", "statement": "q", "cursor_position": "qp",
	"application_name": "app", "backend_type": "btype", "leader_pid": "lpid", "query_id": "query",
}

// json reads a line of jsonlog, or of slog's JSON handler.
func (p *Parser) json(s string) (Record, bool) {
	var raw map[string]json.RawMessage
	if json.Unmarshal([]byte(s), &raw) != nil {
		return Record{}, false
	}
	text := func(key string) string {
		var t string
		if json.Unmarshal(raw[key], &t) != nil {
			return string(raw[key]) // a number, or something with parts
		}
		return t
	}
	r := Record{Source: p.Source, Time: p.last, Level: Info}
	if _, ok := raw["error_severity"]; !ok {
		if _, ok := raw["msg"]; !ok {
			return r, false
		}
		for _, key := range slices.Sorted(maps.Keys(raw)) {
			r.take(key, text(key))
		}
		return r, true
	}
	at, _, ok := stamp(text("timestamp"), p.zone())
	if !ok {
		return r, false
	}
	r.Time, r.Job, r.Level, r.Message = at, Postgres, levelOf(text("error_severity")), text("message")
	values := map[string]string{}
	for key := range raw {
		if name, ok := ofJSON[key]; ok {
			values[name] = text(key)
		}
	}
	if host := text("remote_host"); host != "" {
		values["addr"] = host
		if port := text("remote_port"); port != "" {
			values["addr"] += ":" + port
		}
	}
	if file := text("file_name"); file != "" { // csvlog's words for it
		values["loc"] = file + ":" + text("file_line_num")
		if function := text("func_name"); function != "" {
			values["loc"] = function + ", " + values["loc"]
		}
	}
	for _, name := range columns {
		if v := values[name]; v != "" && name != "msg" {
			r.Fields = append(r.Fields, Field{name, v})
		}
	}
	return r, true
}
