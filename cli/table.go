package cli

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// A table is drawn as Python's PrettyTable draws it for patronictl: frame and
// header ruled, a title in the first rule, a rule under every row if some cell
// has more than one line.
type table struct {
	title   string
	columns []string
	right   map[string]bool // columns aligned to the right
	rows    [][]string
}

func (t table) String() string {
	widths := make([]int, len(t.columns))
	for i, c := range t.columns {
		widths[i] = utf8.RuneCountInString(c)
	}
	ruled := false
	for _, row := range t.rows {
		for i, cell := range row {
			lines := strings.Split(cell, "\n")
			ruled = ruled || len(lines) > 1
			for _, line := range lines {
				widths[i] = max(widths[i], utf8.RuneCountInString(line))
			}
		}
	}
	var rule strings.Builder
	rule.WriteByte('+')
	for _, w := range widths {
		rule.WriteString(strings.Repeat("-", w+2) + "+")
	}
	var b strings.Builder
	b.WriteString(t.top(rule.String()) + "\n")
	t.line(&b, widths, t.columns)
	b.WriteString(rule.String() + "\n")
	for _, row := range t.rows {
		t.line(&b, widths, row)
		if ruled {
			b.WriteString(rule.String() + "\n")
		}
	}
	if !ruled || len(t.rows) == 0 {
		b.WriteString(rule.String() + "\n")
	}
	return b.String()
}

// top lays the title over the first rule; the corner and the last two
// characters stay (PatronictlPrettyTable.__build_header).
func (t table) top(rule string) string {
	title := []rune(t.title)
	title = title[:min(len(title), len(rule)-2)]
	return rule[:1] + string(title) + rule[1+len(title):]
}

// line writes one row, which may have several lines.
func (t table) line(b *strings.Builder, widths []int, row []string) {
	cells := make([][]string, len(row))
	height := 1
	for i, cell := range row {
		cells[i] = strings.Split(cell, "\n")
		height = max(height, len(cells[i]))
	}
	for n := range height {
		b.WriteByte('|')
		for i := range row {
			text := ""
			if n < len(cells[i]) {
				text = cells[i][n]
			}
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text))
			if t.right[t.columns[i]] {
				text = pad + text
			} else {
				text += pad
			}
			b.WriteString(" " + text + " |")
		}
		b.WriteByte('\n')
	}
}

// An object keeps the order of its fields, as Python's json.dumps does.
type object []field

type field struct {
	name  string
	value any
}

// pythonJSON writes objects as json.dumps does with its default separators.
func pythonJSON(rows []object) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, row := range rows {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteByte('{')
		for j, f := range row {
			if j > 0 {
				b.WriteString(", ")
			}
			b.WriteString(pythonValue(f.name) + ": " + pythonValue(f.value))
		}
		b.WriteByte('}')
	}
	b.WriteByte(']')
	return b.String()
}

// pythonValue writes one value; only objects (tags) have parts of their own.
func pythonValue(v any) string {
	switch v := v.(type) {
	case object:
		s := pythonJSON([]object{v})
		return s[1 : len(s)-1]
	default:
		return ascii(v)
	}
}

func ascii(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "null"
	}
	var out strings.Builder
	for _, r := range strings.TrimSuffix(b.String(), "\n") {
		switch {
		case r < 0x7F:
			out.WriteRune(r)
		case r > 0xFFFF:
			out.WriteString(hex4(0xD800+(r-0x10000)>>10) + hex4(0xDC00+(r-0x10000)&0x3FF))
		default:
			out.WriteString(hex4(r))
		}
	}
	return out.String()
}

func hex4(r rune) string {
	const digits = "0123456789abcdef"
	return `\u` + string([]byte{digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15]})
}
