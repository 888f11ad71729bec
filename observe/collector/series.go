package collector

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Field is one column of an answer.
type Field struct {
	Name string
	Type uint32 // PostgreSQL's oid of the type
}

// Types that are not what their text says (pg_type.dat).
const (
	boolType        = 16
	timestampType   = 1114
	timestamptzType = 1184
)

// A Family is all series of one name, ready to be written: lines of
// Prometheus's text format without its HELP and TYPE.
type Family struct {
	Name string
	Type string // gauge or counter
	Help string
	Text []byte
}

// A Result is what one execution of a collector gave.
type Result struct {
	Families []Family
	Labels   []string // of each row, as written
	Series   int
	Warnings []string
}

// Series makes series of the rows, which are in text format, dates in ISO and
// UTC; nil is NULL. Constant is written before the labels of each of them. A
// label that the answer lacks is an error; a value that it lacks is left out.
func (c Collector) Series(fields []Field, rows [][][]byte, constant string) (Result, error) {
	var r Result
	at := map[string]int{}
	for i, f := range fields {
		if _, ok := at[f.Name]; ok {
			return r, fmt.Errorf("the answer has the column %s twice", f.Name)
		}
		at[f.Name] = i
	}
	var labels, values []Column
	for _, col := range c.Columns {
		_, ok := at[col.Name]
		switch {
		case col.Usage == Label && !ok:
			return r, fmt.Errorf("the answer lacks the column %s, a label", col.Name)
		case col.Usage == Label:
			labels = append(labels, col)
		case col.Value() && !ok:
			r.warn("the answer lacks the column %s", col.Name)
		case col.Value():
			values = append(values, col)
		}
	}

	// What the rows are called, and which of them say a name anew.
	names := make([]string, len(rows))
	first := make([]bool, len(rows))
	seen := make(map[string]bool, len(rows))
	for i, row := range rows {
		names[i] = labelsOf(constant, labels, fields, at, row)
		if first[i] = !seen[names[i]]; first[i] {
			seen[names[i]] = true
			r.Labels = append(r.Labels, names[i])
		}
	}
	scalar := slices.ContainsFunc(values, func(col Column) bool { return col.Usage != Histogram })
	if scalar && len(r.Labels) < len(rows) {
		r.warn("%d of %d rows have the labels of another and are left out", len(rows)-len(r.Labels), len(rows))
	}

	for _, col := range values {
		if col.Usage == Histogram {
			r.histogram(c, col, fields[at[col.Name]], at[col.Name], rows, names)
			continue
		}
		f := Family{Name: c.Name + "_" + col.As, Type: strings.ToLower(string(col.Usage)), Help: col.Help}
		f.Text = make([]byte, 0, len(r.Labels)*(len(f.Name)+len(constant)+24))
		for i, row := range rows {
			if !first[i] {
				continue
			}
			v, ok := col.number(fields[at[col.Name]], row[at[col.Name]])
			if !ok {
				r.warn("%s: %q is not a number", f.Name, clip(row[at[col.Name]]))
			}
			f.Text = line(f.Text, f.Name, names[i], "", v)
			r.Series++
		}
		r.Families = append(r.Families, f)
	}
	return r, nil
}

func (r *Result) warn(format string, args ...any) {
	if w := fmt.Sprintf(format, args...); len(r.Warnings) < 20 && !slices.Contains(r.Warnings, w) {
		r.Warnings = append(r.Warnings, w)
	}
}

func clip(b []byte) string { return string(b[:min(len(b), 40)]) }

// histogram counts the observations of a column into a snapshot. Its series
// are gauges: they begin anew with each execution. One observation that is no
// finite number voids all of it.
func (r *Result) histogram(c Collector, col Column, f Field, i int, rows [][][]byte, names []string) {
	type count struct {
		under []uint64
		n     uint64
		sum   float64
	}
	counts := map[string]*count{}
	for j, row := range rows {
		n := counts[names[j]]
		if n == nil {
			n = &count{under: make([]uint64, len(col.Buckets))}
			counts[names[j]] = n
		}
		if row[i] == nil && col.Default == nil {
			continue
		}
		v, ok := col.number(f, row[i])
		if !ok || math.IsNaN(v) || math.IsInf(v, 0) {
			r.warn("%s_%s: %q cannot be counted; this snapshot is left out", c.Name, col.As, clip(row[i]))
			return
		}
		n.n++
		n.sum += v
		for b, bound := range col.Buckets {
			if v <= bound {
				n.under[b]++
			}
		}
	}
	name := c.Name + "_" + col.As
	bucket := Family{Name: name + "_bucket", Type: "gauge", Help: col.Help}
	sum := Family{Name: name + "_sum", Type: "gauge", Help: col.Help}
	total := Family{Name: name + "_count", Type: "gauge", Help: col.Help}
	for _, labels := range r.Labels {
		n := counts[labels]
		for b, bound := range col.Buckets {
			bucket.Text = line(bucket.Text, bucket.Name, labels, `le="`+strconv.FormatFloat(bound, 'g', -1, 64)+`"`, float64(n.under[b]))
		}
		bucket.Text = line(bucket.Text, bucket.Name, labels, `le="+Inf"`, float64(n.n))
		sum.Text = line(sum.Text, sum.Name, labels, "", n.sum)
		total.Text = line(total.Text, total.Name, labels, "", float64(n.n))
		r.Series += len(col.Buckets) + 3
	}
	r.Families = append(r.Families, bucket, sum, total)
}

// number is the value of one field, and whether it is one.
func (c Column) number(f Field, raw []byte) (float64, bool) {
	if raw == nil {
		if c.Default == nil {
			return math.NaN(), true
		}
		return *c.Default * c.Scale, true
	}
	text := string(raw)
	switch f.Type {
	case boolType:
		if text == "t" || text == "true" {
			return 1, true
		}
		return 0, true
	case timestampType, timestamptzType:
		return epoch(text)
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil {
		return math.NaN(), false
	}
	return v * c.Scale, true
}

// epoch is a timestamp's whole seconds since 1970.
func epoch(text string) (float64, bool) {
	switch text {
	case "infinity":
		return math.Inf(1), true
	case "-infinity":
		return math.Inf(-1), true
	}
	for _, layout := range []string{"2006-01-02 15:04:05Z07", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			return float64(t.Unix()), true
		}
	}
	return math.NaN(), false
}

func labelsOf(constant string, labels []Column, fields []Field, at map[string]int, row [][]byte) string {
	b := []byte(constant)
	for _, col := range labels {
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = append(b, col.As...)
		b = append(b, `="`...)
		b = escape(b, labelValue(fields[at[col.Name]], row[at[col.Name]]))
		b = append(b, '"')
	}
	return string(b)
}

func labelValue(f Field, raw []byte) string {
	text := string(raw)
	switch {
	case raw == nil:
		return ""
	case f.Type == boolType && text == "t":
		return "true"
	case f.Type == boolType && text == "f":
		return "false"
	case f.Type == timestampType || f.Type == timestamptzType:
		if v, ok := epoch(text); ok {
			return strconv.FormatFloat(v, 'f', -1, 64)
		}
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// Labels writes constant labels, as Series wants them. What cannot be a label
// is an error.
func Labels(pairs [][2]string) (string, error) {
	var b []byte
	for _, p := range pairs {
		if !labelName.MatchString(p[0]) || strings.HasPrefix(p[0], "__") {
			return "", fmt.Errorf("%q cannot be the name of a label", p[0])
		}
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = append(b, p[0]...)
		b = append(b, `="`...)
		b = escape(b, strings.ToValidUTF8(p[1], "\uFFFD"))
		b = append(b, '"')
	}
	return string(b), nil
}

// Line writes one line of the text format; labels are as Labels writes them.
func Line(b []byte, name, labels string, v float64) []byte { return line(b, name, labels, "", v) }

func line(b []byte, name, labels, more string, v float64) []byte {
	b = append(b, name...)
	if labels != "" || more != "" {
		b = append(b, '{')
		b = append(b, labels...)
		if labels != "" && more != "" {
			b = append(b, ',')
		}
		b = append(b, more...)
		b = append(b, '}')
	}
	b = append(b, ' ')
	switch {
	case math.IsInf(v, 1):
		b = append(b, "+Inf"...)
	case math.IsInf(v, -1):
		b = append(b, "-Inf"...)
	default:
		b = strconv.AppendFloat(b, v, 'g', -1, 64)
	}
	return append(b, '\n')
}

// escape writes s as a label's value.
func escape(b []byte, s string) []byte {
	for i := range len(s) {
		switch s[i] {
		case '\\':
			b = append(b, `\\`...)
		case '"':
			b = append(b, `\"`...)
		case '\n':
			b = append(b, `\n`...)
		default:
			b = append(b, s[i])
		}
	}
	return b
}

// Head writes HELP and TYPE of a family. A help text is one line of the format.
func (f Family) Head(b []byte) []byte {
	if f.Help != "" {
		b = append(b, "# HELP "...)
		b = append(b, f.Name...)
		b = append(b, ' ')
		for i := range len(f.Help) {
			switch f.Help[i] {
			case '\\':
				b = append(b, `\\`...)
			case '\n':
				b = append(b, `\n`...)
			default:
				b = append(b, f.Help[i])
			}
		}
		b = append(b, '\n')
	}
	b = append(b, "# TYPE "...)
	b = append(b, f.Name...)
	b = append(b, ' ')
	b = append(b, f.Type...)
	return append(b, '\n')
}
