// Package collector says what a file of pg_exporter's collectors means: which
// of them apply to a server, and which series the rows of their queries are.
//
// It asks no server and reads no file: text, facts and rows come from package
// collect. Format and rules are those of pg_exporter 1.4 (pg_exporter.yml of
// pgsty/pg_exporter), so that a user's own file means here what it meant there;
// the files that ship with us are of the same kind.
package collector

import (
	"slices"
	"strings"
	"time"
)

// DefaultTimeout is what a query may take that says nothing of it.
const DefaultTimeout = 100 * time.Millisecond

// A Collector is one branch of a file: a query, and what its columns are.
type Collector struct {
	Branch     string // unique; what a later file overrides by
	Name       string // the namespace: "pg_db" begins the name of each of its families
	Desc       string
	Query      string
	Predicates []Predicate
	Tags       []string
	TTL        time.Duration // how long an answer is good; 0: never
	Timeout    time.Duration // of the query; 0: none
	Priority   int           // what runs first has the lowest
	Ranked     bool          // the file gives the priority
	Min, Max   int           // versions it is for, [Min, Max); 0: any
	Fatal      bool          // its failure is that of the server
	Skip       bool
	Columns    []Column
}

// A Predicate is a query that must answer true before the collector's own runs.
type Predicate struct {
	Name  string
	Query string
	TTL   time.Duration
}

// Usage is what a column becomes.
type Usage string

// Usages, as files spell them in capitals.
const (
	Label     Usage = "LABEL"
	Gauge     Usage = "GAUGE"
	Counter   Usage = "COUNTER"
	Histogram Usage = "HISTOGRAM"
	Discard   Usage = "DISCARD"
)

// A Column is one column of the answer.
type Column struct {
	Name    string // in the answer
	As      string // in the series
	Usage   Usage
	Help    string
	Scale   float64   // 1 unless the file says otherwise
	Default *float64  // of NULL, before Scale
	Buckets []float64 // upper bounds of a histogram
}

// Value says that the column becomes series.
func (c Column) Value() bool { return c.Usage == Gauge || c.Usage == Counter || c.Usage == Histogram }

// Has says that the collector has the tag.
func (c Collector) Has(tag string) bool { return slices.Contains(c.Tags, tag) }

// Families are the names of what it exports.
func (c Collector) Families() []string {
	var names []string
	for _, col := range c.Columns {
		name := c.Name + "_" + col.As
		switch col.Usage {
		case Gauge, Counter:
			names = append(names, name)
		case Histogram:
			names = append(names, name+"_bucket", name+"_sum", name+"_count")
		}
	}
	return names
}

// Merge puts later files over earlier ones, as the files of a directory are:
// a branch of the same name is replaced, and what has no priority of its own
// has that of its file, 100 and up.
func Merge(files ...[]Collector) []Collector {
	var all []Collector
	for rank, file := range files {
		for _, c := range file {
			if !c.Ranked {
				c.Priority = 100 + rank
			}
			if i := slices.IndexFunc(all, func(a Collector) bool { return a.Branch == c.Branch }); i >= 0 {
				all[i] = c
			} else {
				all = append(all, c)
			}
		}
	}
	return all
}

// Facts are what decides which collectors apply to a database.
type Facts struct {
	Pooler     bool // the admin console of PgBouncer, not PostgreSQL
	Version    int  // server_version_num; a pooler's is major*10000 + minor*100 + patch
	Recovery   bool
	Database   string
	User       string
	Extensions []string
	Schemas    []string
	Discovered bool     // another database of a server whose cluster-wide series come from the main one
	Tags       []string // what the exporter was started with
}

// A Choice is whether a collector applies, and why not.
type Choice struct {
	Collector
	Why string // "": it applies
}

// Plan chooses, in the order of execution: by priority, then as the files
// have them. Of two that would export the same name, the first applies.
func Plan(all []Collector, f Facts) []Choice {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b Collector) int { return a.Priority - b.Priority })
	taken := map[string]string{}
	var plan []Choice
	for _, c := range all {
		why := c.excluded(f)
		if why == "" {
			for _, name := range c.Families() {
				if other, ok := taken[name]; ok {
					why = other + " exports " + name + " already"
					break
				}
			}
		}
		if why == "" {
			for _, name := range c.Families() {
				taken[name] = c.Branch
			}
		}
		plan = append(plan, Choice{c, why})
	}
	return plan
}

// excluded says why c is not for a database with these facts.
func (c Collector) excluded(f Facts) string {
	switch {
	case c.Skip:
		return "skip"
	case c.Has("pgbouncer") != f.Pooler && f.Pooler:
		return "not for a pooler"
	case c.Has("pgbouncer") != f.Pooler:
		return "only for a pooler"
	case c.Min > 0 && f.Version < c.Min:
		return "only from version " + number(c.Min)
	case c.Max > 0 && f.Version >= c.Max:
		return "only below version " + number(c.Max)
	}
	for _, tag := range c.Tags {
		kind, name, named := strings.Cut(tag, ":")
		ok := true
		switch {
		case tag == "cluster":
			ok = !f.Discovered
		case tag == "primary" || tag == "master":
			ok = !f.Recovery
		case tag == "standby" || tag == "replica" || tag == "slave":
			ok = f.Recovery
		case tag == "pgbouncer":
		case named && kind == "dbname":
			ok = f.Database == name
		case named && kind == "username":
			ok = f.User == name
		case named && kind == "extension":
			ok = slices.Contains(f.Extensions, name)
		case named && kind == "schema":
			ok = slices.Contains(f.Schemas, name)
		case named && kind == "not":
			ok = !slices.Contains(f.Tags, name)
		default:
			ok = slices.Contains(f.Tags, tag)
		}
		if !ok {
			return "tag " + tag
		}
	}
	return ""
}
