package stanza

import (
	"fmt"
	"log/slog"
)

// A Voice is told what happens. The texts are pgBackRest's where it has one:
// people and scripts look for them. A nil Voice is silent.
type Voice func(level slog.Level, text string)

// Info tells of something that went as it should.
func (v Voice) Info(format string, args ...any) { v.say(slog.LevelInfo, format, args) }

// Warn tells of something that a person should look at.
func (v Voice) Warn(format string, args ...any) { v.say(slog.LevelWarn, format, args) }

// Detail tells of one file.
func (v Voice) Detail(format string, args ...any) { v.say(slog.LevelDebug, format, args) }

func (v Voice) say(level slog.Level, format string, args []any) {
	if v != nil {
		v(level, fmt.Sprintf(format, args...))
	}
}
