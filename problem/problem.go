// Package problem is the shape of an error that reaches a person: what could
// not be done, why, and what to do about it, under a stable code.
//
// The code is also the name of a manual page (docs/problems.md), of a health
// item and of an alert; a test checks that every code has its page.
package problem

import (
	"errors"
	"strings"
)

// An Error tells a person what failed, why, and what to do.
type Error struct {
	Code string // stable, lower case with hyphens: datadir-foreign
	What string // what could not be done: cannot join cluster pg-meta
	Why  string // the fact behind it
	Do   string // the remedy, a command where there is one
	Err  error  // the cause, if one is worth keeping
}

// Error prints the parts on one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.What)
	if e.Why != "" {
		b.WriteString(": " + e.Why)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Do != "" {
		b.WriteString("; " + e.Do)
	}
	return b.String() + " [" + e.Code + "]"
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Code returns the code of the first problem in err's chain, or "".
func Code(err error) string {
	if p, ok := errors.AsType[*Error](err); ok {
		return p.Code
	}
	return ""
}

// Text prints err for a terminal: the problem's parts on lines of their own.
func Text(err error) string {
	p, ok := errors.AsType[*Error](err)
	if !ok {
		return err.Error()
	}
	var b strings.Builder
	b.WriteString(p.What)
	why := p.Why
	if p.Err != nil {
		if why != "" {
			why += ": "
		}
		why += p.Err.Error()
	}
	if why != "" {
		b.WriteString("\n  why: " + strings.ReplaceAll(why, "\n", "\n       "))
	}
	if p.Do != "" {
		b.WriteString("\n  do:  " + p.Do)
	}
	return b.String() + "\n  [" + p.Code + "]"
}
