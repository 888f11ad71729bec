package collector

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"howdah/problem"
)

func number(n int) string { return strconv.Itoa(n) }

// Parse reads one file, which is called name in what is said of it. Whatever
// makes a collector useless is an error, with its line; a key that nobody knows
// is a warning, because the file must load as it did elsewhere.
func Parse(name string, text []byte) (all []Collector, warnings []string, err error) {
	p := &parser{file: name}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, nil, refuse(name, err)
	}
	if len(doc.Content) == 0 {
		return nil, nil, nil
	}
	p.fields(doc.Content[0], "the file", func(branch string, at, v *yaml.Node) {
		if slices.ContainsFunc(all, func(c Collector) bool { return c.Branch == branch }) {
			p.wrong(at, "collector %s is there twice", branch)
			return
		}
		all = append(all, p.collector(branch, at, v))
	})
	if len(p.errs) > 0 {
		return nil, p.warnings, refuse(name, errors.Join(p.errs...))
	}
	return all, p.warnings, nil
}

func refuse(name string, err error) error {
	return &problem.Error{
		Code: "collector-file", What: "cannot use the collectors of " + name, Why: err.Error(),
		Do: "correct what is named and load it again; `howdah pg_exporter --config FILE --dry-run` shows how a file is read", Err: err,
	}
}

type parser struct {
	file     string
	errs     []error
	warnings []string
	depth    int
}

func (p *parser) at(n *yaml.Node) string { return p.file + ":" + number(n.Line) + ": " }

func (p *parser) wrong(n *yaml.Node, format string, args ...any) {
	p.errs = append(p.errs, errors.New(p.at(n)+fmt.Sprintf(format, args...)))
}

// fields visits the keys of a mapping, through aliases and merged mappings.
func (p *parser) fields(n *yaml.Node, what string, visit func(key string, at, v *yaml.Node)) {
	n = real(n)
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return
	}
	if n.Kind != yaml.MappingNode {
		p.wrong(n, "%s must be a mapping", what)
		return
	}
	if p.depth > 16 { // an alias of a mapping that merges itself
		p.wrong(n, "%s is nested too deep", what)
		return
	}
	p.depth++
	defer func() { p.depth-- }()
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, v := n.Content[i], n.Content[i+1]
		if key.Tag == "!!merge" {
			for _, from := range merged(real(v)) {
				p.fields(from, what, func(key string, at, v *yaml.Node) {
					if !seen[key] && !has(n, key) {
						seen[key] = true
						visit(key, at, v)
					}
				})
			}
			continue
		}
		visit(real(key).Value, key, real(v))
	}
}

// real is what an alias stands for.
func real(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	return n
}

func merged(n *yaml.Node) []*yaml.Node {
	if n.Kind == yaml.SequenceNode {
		return n.Content
	}
	return []*yaml.Node{n}
}

func has(n *yaml.Node, key string) bool {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return true
		}
	}
	return false
}

var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
)

func (p *parser) collector(branch string, at, n *yaml.Node) Collector {
	c := Collector{Branch: branch, Name: branch}
	p.fields(n, "collector "+branch, func(key string, at, v *yaml.Node) {
		switch key {
		case "name":
			if v.Value != "" {
				c.Name = v.Value
			}
		case "desc":
			c.Desc = v.Value
		case "query":
			c.Query = strings.TrimSpace(v.Value)
		case "predicate_queries":
			for i, v := range p.list(v, key) {
				c.Predicates = append(c.Predicates, p.predicate(i, v))
			}
		case "tags":
			for _, v := range p.list(v, key) {
				c.Tags = append(c.Tags, v.Value)
			}
		case "ttl":
			c.TTL = p.seconds(v, key)
			if c.TTL < 0 {
				p.wrong(v, "ttl must not be negative")
			}
		case "timeout":
			c.Timeout = p.seconds(v, key)
		case "priority":
			c.Priority, c.Ranked = p.integer(v, key), true
		case "min_version":
			c.Min = p.integer(v, key)
		case "max_version":
			c.Max = p.integer(v, key)
		case "fatal":
			c.Fatal = p.boolean(v, key)
		case "skip":
			c.Skip = p.boolean(v, key)
		case "metrics":
			for _, v := range p.list(v, key) {
				p.fields(v, "a metric", func(name string, at, v *yaml.Node) {
					c.Columns = append(c.Columns, p.column(name, at, v))
				})
			}
		default:
			p.warnings = append(p.warnings, p.at(at)+"unknown key "+key+" of collector "+branch)
		}
	})
	switch {
	case c.Timeout == 0:
		c.Timeout = DefaultTimeout
	case c.Timeout < 0:
		c.Timeout = 0
	}
	p.check(at, c)
	return c
}

// check refuses what could not become series.
func (p *parser) check(at *yaml.Node, c Collector) {
	if c.Query == "" {
		p.wrong(at, "collector %s has no query", c.Branch)
	}
	if len(c.Columns) == 0 {
		p.wrong(at, "collector %s has no metrics", c.Branch)
		return
	}
	if !slices.ContainsFunc(c.Columns, Column.Value) {
		p.wrong(at, "no column of collector %s is a value", c.Branch)
	}
	columns, labels, families := map[string]bool{}, map[string]bool{}, map[string]bool{}
	histogram := slices.ContainsFunc(c.Columns, func(col Column) bool { return col.Usage == Histogram })
	for _, col := range c.Columns {
		if columns[col.Name] {
			p.wrong(at, "collector %s has the column %s twice", c.Branch, col.Name)
		}
		columns[col.Name] = true
		switch {
		case col.Usage == Label && (!labelName.MatchString(col.As) || strings.HasPrefix(col.As, "__")):
			p.wrong(at, "collector %s: %q cannot be the name of a label", c.Branch, col.As)
		case col.Usage == Label && col.As == "le" && histogram:
			p.wrong(at, "collector %s: a histogram has a label le of its own", c.Branch)
		case col.Usage == Label && labels[col.As]:
			p.wrong(at, "collector %s has the label %s twice", c.Branch, col.As)
		case col.Value() && !metricName.MatchString(c.Name+"_"+col.As):
			p.wrong(at, "collector %s: %q cannot be the name of a metric", c.Branch, c.Name+"_"+col.As)
		case col.Usage == Histogram && len(col.Buckets) == 0:
			p.wrong(at, "collector %s: the histogram %s has no bucket", c.Branch, col.Name)
		}
		if col.Usage == Label {
			labels[col.As] = true
		}
		for i, b := range col.Buckets {
			if math.IsInf(b, 0) || math.IsNaN(b) || i > 0 && b <= col.Buckets[i-1] {
				p.wrong(at, "collector %s: the buckets of %s must be finite and rise", c.Branch, col.Name)
				break
			}
		}
	}
	for _, name := range c.Families() {
		if families[name] {
			p.wrong(at, "collector %s exports %s twice", c.Branch, name)
		}
		families[name] = true
	}
}

func (p *parser) predicate(i int, n *yaml.Node) Predicate {
	q := Predicate{Name: number(i)}
	p.fields(n, "a predicate", func(key string, at, v *yaml.Node) {
		switch key {
		case "name":
			q.Name = v.Value
		case "predicate_query":
			q.Query = strings.TrimSpace(v.Value)
		case "ttl":
			q.TTL = p.seconds(v, key)
		default:
			p.warnings = append(p.warnings, p.at(at)+"unknown key "+key+" of a predicate")
		}
	})
	if q.Query == "" {
		p.wrong(n, "a predicate has no predicate_query")
	}
	return q
}

func (p *parser) column(name string, at, n *yaml.Node) Column {
	c := Column{Name: name, As: name, Scale: 1}
	p.fields(n, "column "+name, func(key string, at, v *yaml.Node) {
		switch key {
		case "usage":
			c.Usage = Usage(strings.ToUpper(v.Value))
		case "rename":
			if v.Value != "" {
				c.As = v.Value
			}
		case "name": // an alias of the key
			if v.Value != "" {
				c.Name = v.Value
				if c.As == name {
					c.As = v.Value
				}
			}
		case "description":
			c.Help = v.Value
		case "scale":
			if v.Value != "" {
				c.Scale = p.float(v, key)
			}
		case "default":
			if v.Value != "" && v.Tag != "!!null" {
				d := p.float(v, key)
				c.Default = &d
			}
		case "bucket":
			for _, v := range p.list(v, key) {
				c.Buckets = append(c.Buckets, p.float(v, key))
			}
		default:
			p.warnings = append(p.warnings, p.at(at)+"unknown key "+key+" of column "+name)
		}
	})
	switch c.Usage {
	case Label, Gauge, Counter, Histogram, Discard:
	default:
		p.wrong(at, "column %s: usage must be LABEL, GAUGE, COUNTER, HISTOGRAM or DISCARD, not %q", name, c.Usage)
	}
	return c
}

func (p *parser) list(n *yaml.Node, what string) []*yaml.Node {
	if n.Kind == yaml.ScalarNode && (n.Tag == "!!null" || n.Value == "") {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		p.wrong(n, "%s must be a list", what)
		return nil
	}
	var out []*yaml.Node
	for _, v := range n.Content {
		out = append(out, real(v))
	}
	return out
}

func (p *parser) float(n *yaml.Node, what string) float64 {
	f, err := strconv.ParseFloat(strings.TrimSpace(n.Value), 64)
	if err != nil || n.Kind != yaml.ScalarNode {
		p.wrong(n, "%s must be a number, not %q", what, n.Value)
		return 1
	}
	return f
}

// integer reads digits as decimal whatever they begin with: YAML would take
// 090600 for text and 010000 for octal.
func (p *parser) integer(n *yaml.Node, what string) int {
	i, err := strconv.ParseInt(strings.TrimSpace(n.Value), 10, 32)
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return 0
	}
	if err != nil {
		p.wrong(n, "%s must be a whole number, not %q", what, n.Value)
	}
	return int(i)
}

func (p *parser) boolean(n *yaml.Node, what string) bool {
	switch strings.ToLower(n.Value) {
	case "true", "yes", "on":
		return true
	case "false", "no", "off", "", "null", "~":
		return false
	}
	p.wrong(n, "%s must be true or false, not %q", what, n.Value)
	return false
}

// seconds reads a duration of at most a year.
func (p *parser) seconds(n *yaml.Node, what string) time.Duration {
	if n.Kind == yaml.ScalarNode && (n.Tag == "!!null" || n.Value == "") {
		return 0
	}
	f := p.float(n, what)
	if math.IsNaN(f) || math.Abs(f) > 365*24*3600 {
		p.wrong(n, "%s must be seconds, not %q", what, n.Value)
		return 0
	}
	return time.Duration(f * float64(time.Second))
}
