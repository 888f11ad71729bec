package logbook

import (
	"regexp"
	"slices"
	"time"
)

// A Filter says which records somebody wants; what is not said does not matter.
type Filter struct {
	Since, Until time.Time
	Level        Level // at least so bad
	Members      []string
	Jobs         []string
	User         string
	Database     string
	Grep         *regexp.Regexp // in what a person would read
	Selector     *Selector      // in Loki's language
}

// Wants says whether r is one of them.
func (f Filter) Wants(r Record) bool {
	switch {
	case r.Level < f.Level,
		!f.Since.IsZero() && r.Time.Before(f.Since),
		!f.Until.IsZero() && r.Time.After(f.Until),
		len(f.Members) > 0 && !slices.Contains(f.Members, r.Member),
		len(f.Jobs) > 0 && !slices.Contains(f.Jobs, r.Job),
		f.User != "" && r.Get(fieldUser) != f.User,
		f.Database != "" && r.Get(fieldDatabase) != f.Database:
		return false
	}
	return (f.Grep == nil || f.Grep.MatchString(r.Text())) && (f.Selector == nil || f.Selector.Wants(r))
}
