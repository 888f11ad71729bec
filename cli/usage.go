package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"howdah/problem"
)

// A usageError is an error of whoever typed the command.
type usageError struct {
	error
	instead string // what was perhaps meant; "": no idea
}

func usage(format string, args ...any) error { return usageError{error: fmt.Errorf(format, args...)} }

// unknownWord refuses a word that is none of cmd's verbs.
func unknownWord(cmd *cobra.Command, kind, word string) error {
	e := usageError{error: fmt.Errorf("unknown %s %q", kind, word)}
	var names []string
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() {
			continue
		}
		names = append(names, c.Name())
		if slices.Contains(c.SuggestFor, strings.ToLower(word)) {
			e.instead = cmd.CommandPath() + " " + c.Name()
		}
	}
	if name := nearest(word, names); name != "" && e.instead == "" {
		e.instead = cmd.CommandPath() + " " + name
	}
	return e
}

// wrongFlag puts what pflag says of a flag into words for a person.
func wrongFlag(cmd *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		e := usageError{error: err}
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, f.Name)
			}
		})
		if name := nearest(unknown.GetSpecifiedName(), names); name != "" && unknown.GetSpecifiedShortnames() == "" {
			e.instead = cmd.CommandPath() + " --" + name
		}
		return e
	}
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		wants := map[string]string{"int64": "a whole number", "int": "a whole number", "bool": "true or false", "duration": "a time like 10s"}
		if kind, ok := wants[bad.GetFlag().Value.Type()]; ok {
			return usage("--%s %q is not %s", bad.GetFlag().Name, bad.GetValue(), kind)
		}
	}
	return usageError{error: err}
}

// misused is a usage error as people and programs see it.
func misused(err error, cmd *cobra.Command) error {
	e, _ := errors.AsType[usageError](err)
	p := &problem.Error{
		Code: "usage", What: "wrong use of `" + cmd.CommandPath() + "`", Why: err.Error(),
		Do: "see `" + cmd.CommandPath() + " --help`",
	}
	if e.instead != "" {
		p.Do = "perhaps `" + e.instead + "` is meant; " + p.Do
	}
	return p
}

// nothing refuses arguments.
func nothing(hint string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return nil
		case hint == "":
			return usage("%s takes no arguments, not %q", cmd.Name(), args[0])
		}
		return usage("%s takes no arguments%s", cmd.Name(), hint)
	}
}

// nearest is the one of words that a typing error turned into word, or that
// word begins; "" if none is near.
func nearest(word string, words []string) string {
	word = strings.ToLower(word)
	best, least := "", 1+min(2, len(word)/2)
	for _, w := range words {
		if d := typos(word, w); d < least {
			best, least = w, d
		}
	}
	if best != "" || len(word) < 2 {
		return best
	}
	for _, w := range words {
		if strings.HasPrefix(w, word) {
			return w
		}
	}
	return ""
}

// typos counts the letters to insert, drop, replace or swap with their
// neighbour to turn a into b (Damerau's distance, each place touched once).
func typos(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		now := make([]int, len(b)+1)
		now[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			now[j+1] = min(last[j+1]+1, now[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				now[j+1] = min(now[j+1], before[j-1]+1)
			}
		}
		before, last = last, now
	}
	return last[len(b)]
}
