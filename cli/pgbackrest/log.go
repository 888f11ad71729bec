package pgbackrest

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"howdah/backup"
	"howdah/backup/repo"
)

// levels of pgBackRest's log, from the quietest.
var levels = []string{"off", "error", "warn", "info", "detail", "debug", "trace"}

func levelOf(name string) int {
	for i, l := range levels {
		if l == name {
			return i
		}
	}
	return 2
}

// A log is where lines go: those as grave as stderr wants go there, the others
// to the console, and all to the file.
type log struct {
	out, err  io.Writer
	console   int
	stderr    int
	stamp     bool
	file      *os.File
	fileLevel int
}

func newLog(c *command, p Process) *log {
	l := &log{
		out: p.Out, err: p.Err, stamp: c.text("log-timestamp") == "y",
		console: levelOf(c.text("log-level-console")), stderr: levelOf(c.text("log-level-stderr")), fileLevel: levelOf(c.text("log-level-file")),
	}
	stanza := c.text("stanza")
	name := c.name
	if c.async {
		name += "-async"
	}
	switch name {
	case "", "help", "version", "info", "archive-get", "archive-push", "start", "stop":
		l.fileLevel = 0 // as pgBackRest: these have no file of their own, unless asynchronous
	}
	if l.fileLevel == 0 || stanza == "" {
		return l
	}
	path := filepath.Join(c.text("log-path"), stanza+"-"+name+".log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		c.warn = append(c.warn, fmt.Sprintf("unable to open log file '%s': %s\nNOTE: process will continue without log file.", path, err))
		return l
	}
	l.file = f
	if st, err := f.Stat(); err == nil && st.Size() > 0 {
		fmt.Fprintln(f)
	}
	fmt.Fprintln(f, "-------------------PROCESS START-------------------")
	return l
}

func (l *log) close() {
	if l.file != nil {
		_ = l.file.Close()
	}
}

// line prints one entry; the lines that follow its first are indented.
func (l *log) line(level int, text string) {
	prefix := fmt.Sprintf("P00 %6s: ", strings.ToUpper(levels[level]))
	now := time.Now().Format("2006-01-02 15:04:05.000 ")
	print := func(w io.Writer, stamp bool) {
		head := prefix
		if stamp {
			head = now + prefix
		}
		fmt.Fprintln(w, head+strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", len(head))))
	}
	switch {
	case level <= l.stderr:
		print(l.err, l.stamp)
	case level <= l.console:
		print(l.out, l.stamp)
	}
	if l.file != nil && level <= l.fileLevel {
		print(l.file, true)
	}
}

const (
	atError = iota + 1
	atWarn
	atInfo
	atDetail
)

func (l *log) voice() backup.Voice {
	return func(level slog.Level, text string) {
		switch {
		case level >= slog.LevelWarn:
			l.line(atWarn, text)
		case level >= slog.LevelInfo:
			l.line(atInfo, text)
		default:
			l.line(atDetail, text)
		}
	}
}

func (l *log) error(code int, err error) { l.line(atError, fmt.Sprintf("[%03d]: %s", code, err)) }

// quiet commands say nothing of themselves.
func quiet(name string) bool {
	return name == "" || name == "help" || name == "version" || name == "info"
}

func (l *log) begin(c *command, args []string) {
	if quiet(c.name) {
		return
	}
	var shown []string
	for _, a := range args {
		if a != c.name {
			shown = append(shown, a)
		}
	}
	l.line(atInfo, fmt.Sprintf("%s command begin %s: %s", c.name, repo.Version, strings.Join(shown, " ")))
}

func (l *log) end(c *command, code int, err error, took time.Duration) {
	switch {
	case quiet(c.name):
	case err != nil:
		l.line(atInfo, fmt.Sprintf("%s command end: aborted with exception [%03d]", c.name, code))
	default:
		l.line(atInfo, fmt.Sprintf("%s command end: completed successfully (%dms)", c.name, took.Milliseconds()))
	}
}
