package repo

import (
	"bytes"
	"cmp"
	"crypto/sha1" //nolint:gosec // the format's checksum
	"encoding/hex"
	"hash"
	"io"
	"slices"
	"strings"
)

// An InfoFile is archive.info, backup.info or a manifest: sections of keys
// whose values are JSON, between a head that names the format and a checksum.
type InfoFile struct {
	Version  string // of the pgBackRest that wrote it
	Sections []Section
}

// A Section is a part of an InfoFile. The head and the checksum are none.
type Section struct {
	Name  string
	Lines []Line
}

const (
	head        = "backrest"
	formatKey   = "backrest-format"
	versionKey  = "backrest-version"
	checksumKey = "backrest-checksum"
)

// ParseInfo reads an info file and proves its checksum.
func ParseInfo(data []byte) (InfoFile, error) {
	var f InfoFile
	format, sum := "", ""
	sums := newSums()
	var at *Section
	heading := false
	for n := 1; len(data) > 0; n++ {
		raw, rest, _ := bytes.Cut(data, []byte{'\n'})
		data = rest
		line := string(raw)
		switch {
		case line == "":
			continue
		case line[0] == '[' && line[len(line)-1] == ']':
			name := line[1 : len(line)-1]
			if heading = name == head; heading {
				continue
			}
			if sums.section(name); len(f.Sections) > 0 && name <= f.Sections[len(f.Sections)-1].Name {
				return InfoFile{}, Errorf(BadFormat, "section '%s' at line %d is out of order", name, n)
			}
			f.Sections = append(f.Sections, Section{Name: name})
			at = &f.Sections[len(f.Sections)-1]
			continue
		}
		key, value, ok := cutLine(line)
		if !ok {
			return InfoFile{}, Errorf(BadFormat, "no key and value at line %d: %.60s", n, line)
		}
		switch {
		case heading && key == checksumKey:
			sum, _ = unquote(value)
			continue
		case heading && at != nil:
			return InfoFile{}, Errorf(BadFormat, "key '%s' at line %d stands in a section that has ended", key, n)
		case heading:
			if format == "" {
				sums.section(head)
			}
			switch key {
			case formatKey:
				format = value
			case versionKey:
				f.Version, _ = unquote(value)
			}
		case at == nil:
			return InfoFile{}, Errorf(BadFormat, "key '%s' at line %d stands in no section", key, n)
		default:
			if len(at.Lines) > 0 && key <= at.Lines[len(at.Lines)-1].Key {
				return InfoFile{}, Errorf(BadFormat, "key '%s' at line %d is out of order", key, n)
			}
			at.Lines = append(at.Lines, Line{key, value})
		}
		sums.line(key, value)
	}
	switch want := sums.end(); {
	case format == "":
		return InfoFile{}, Errorf(BadFormat, "%s is missing", formatKey)
	case format != integer(Format):
		return InfoFile{}, Errorf(BadFormat, "expected format %d but found %s", Format, format)
	case sum == "":
		return InfoFile{}, Errorf(Checksum, "invalid checksum, actual '%s' but no checksum found", want)
	case sum != want:
		return InfoFile{}, Errorf(Checksum, "invalid checksum, actual '%s' but expected '%s'", want, sum)
	}
	return f, nil
}

// cutLine parts a key from its value. A key may itself have equals signs: it
// ends at the first that a value follows.
func cutLine(line string) (key, value string, ok bool) {
	for from := 0; ; {
		i := strings.IndexByte(line[from:], '=')
		if i < 0 {
			return "", "", false
		}
		from += i + 1
		if value := line[from:]; from > 1 && valid(value) {
			return line[:from-1], value, true
		}
	}
}

// Bytes is the file as it is stored, with its checksum.
func (f InfoFile) Bytes() []byte {
	var b bytes.Buffer
	sums := newSums()
	put := func(key, value string) {
		b.WriteString(key + "=" + value + "\n")
		sums.line(key, value)
	}
	b.WriteString("[" + head + "]\n")
	sums.section(head)
	put(formatKey, integer(Format))
	put(versionKey, quote(f.Version))
	slices.SortFunc(f.Sections, func(a, b Section) int { return cmp.Compare(a.Name, b.Name) })
	for _, s := range f.Sections {
		if len(s.Lines) == 0 {
			continue
		}
		b.WriteString("\n[" + s.Name + "]\n")
		sums.section(s.Name)
		slices.SortStableFunc(s.Lines, func(a, b Line) int { return cmp.Compare(a.Key, b.Key) })
		for _, l := range s.Lines {
			put(l.Key, l.Value)
		}
	}
	b.WriteString("\n[" + head + "]\n" + checksumKey + "=" + quote(sums.end()) + "\n")
	return b.Bytes()
}

// section returns the lines of a section, and of none if it is missing.
func (f InfoFile) section(name string) []Line {
	for _, s := range f.Sections {
		if s.Name == name {
			return s.Lines
		}
	}
	return nil
}

// others are the sections that are none of the given: kept as they are.
func (f InfoFile) others(known ...string) []Section {
	var rest []Section
	for _, s := range f.Sections {
		if !slices.Contains(known, s.Name) {
			rest = append(rest, s)
		}
	}
	return rest
}

// sums is the checksum of an info file: SHA-1 of one JSON object of its
// sections, each an object of its values as they stand.
type sums struct {
	h           hash.Hash
	begun, held bool // a section, a line in it
}

func newSums() *sums {
	s := &sums{h: sha1.New()}
	s.write("{")
	return s
}

func (s *sums) write(text string) { _, _ = io.WriteString(s.h, text) }

func (s *sums) section(name string) {
	if s.begun {
		s.write("},")
	}
	s.begun, s.held = true, false
	s.write(quote(name) + ":{")
}

func (s *sums) line(key, value string) {
	if s.held {
		s.write(",")
	}
	s.held = true
	s.write(quote(key) + ":" + value)
}

func (s *sums) end() string {
	if s.begun {
		s.write("}")
	}
	s.write("}")
	return hex.EncodeToString(s.h.Sum(nil))
}
