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
	Code string `json:"code"` // stable, lower case with hyphens: datadir-foreign
	What string `json:"what"` // what could not be done: cannot join cluster pg-meta
	Why  string `json:"why"`  // the fact behind it
	Do   string `json:"do"`   // the remedy, a command where there is one
	Err  error  `json:"-"`    // the cause, if one is worth keeping
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

// Plain is the first problem in err's chain as a value that can be compared and
// sent: its cause is told in Why. The zero Error says that there is none.
func Plain(err error) Error {
	p, ok := errors.AsType[*Error](err)
	if !ok {
		return Error{}
	}
	plain := *p
	plain.Why, plain.Err = p.cause(), nil
	return plain
}

// cause is Why and what Err says.
func (e *Error) cause() string {
	switch {
	case e.Err == nil:
		return e.Why
	case e.Why == "":
		return e.Err.Error()
	}
	return e.Why + ": " + e.Err.Error()
}

// Text prints err for a terminal: the problem's parts on lines of their own.
func Text(err error) string {
	p, ok := errors.AsType[*Error](err)
	if !ok {
		return err.Error()
	}
	var b strings.Builder
	b.WriteString(p.What)
	if why := p.cause(); why != "" {
		b.WriteString("\n  why: " + strings.ReplaceAll(why, "\n", "\n       "))
	}
	if p.Do != "" {
		b.WriteString("\n  do:  " + p.Do)
	}
	return b.String() + "\n  [" + p.Code + "]"
}
