// Package hba reads the pooler's rules of who may log in from where, by what
// proof, and finds the one that counts for a client.
//
// It follows PgBouncer's auth_hba_file, which is PostgreSQL's pg_hba.conf with
// less: no groups, no regular expressions, no host names. Beyond it, samehost
// and samenet are understood. A line that cannot be read is told and skipped,
// as there, and the first rule that matches decides. Sources: PgBouncer's
// src/hba.c and config.md, PostgreSQL's src/backend/libpq/hba.c.
package hba

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Method is how a client proves who she is, by its name in the file.
type Method string

// The methods.
const (
	Trust    Method = "trust"
	Reject   Method = "reject"
	Password Method = "password"
	MD5      Method = "md5"
	SCRAM    Method = "scram-sha-256"
	Cert     Method = "cert"
	Peer     Method = "peer"
)

// methods are those that a rule may name.
var methods = []Method{Trust, Reject, Password, MD5, SCRAM, Cert, Peer}

// A Client is what rules look at.
type Client struct {
	Unix        bool
	Addr        netip.Addr // of TCP
	TLS         bool
	Database    string
	User        string
	Replication bool           // physical: it names no database
	Own         []netip.Prefix // this host's addresses with their networks, for samehost and samenet
}

// A Rule is one line.
type Rule struct {
	Line   int
	Method Method
	Map    string // of identities, for cert and peer; "" is none

	kind      string // local, host, hostssl, hostnossl
	databases names
	users     names
	where     where
}

// Rules are a file's, in order.
type Rules []Rule

// Match returns the first rule for c.
func (rs Rules) Match(c Client) (Rule, bool) {
	for _, r := range rs {
		if r.reaches(c) && r.databases.database(c) && r.users.has(c.User) {
			return r, true
		}
	}
	return Rule{}, false
}

// reaches says whether r is about the way on which c came.
func (r Rule) reaches(c Client) bool {
	switch r.kind {
	case "local":
		return c.Unix
	case "hostssl":
		return !c.Unix && c.TLS && r.where.has(c)
	case "hostnossl":
		return !c.Unix && !c.TLS && r.where.has(c)
	}
	return !c.Unix && r.where.has(c)
}

// names is a list of databases or users.
type names struct {
	all, sameuser, replication bool
	list                       []string
}

func (n names) has(name string) bool { return n.all || slices.Contains(n.list, name) }

// database says whether n has c's database. Physical replication has none, and
// is asked for by its own word only (hba.c, check_db).
func (n names) database(c Client) bool {
	if c.Replication {
		return n.replication
	}
	return n.has(c.Database) || n.sameuser && c.Database == c.User
}

// where is a set of addresses.
type where struct {
	word string // all, samehost, samenet; or an address and a mask
	addr netip.Addr
	mask netip.Addr
}

func (w where) has(c Client) bool {
	a := c.Addr.Unmap().WithZone("")
	switch w.word {
	case "all":
		return a.IsValid()
	case "samehost":
		return slices.ContainsFunc(c.Own, func(p netip.Prefix) bool { return p.Addr().Unmap() == a })
	case "samenet":
		return slices.ContainsFunc(c.Own, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	return a.IsValid() && a.BitLen() == w.addr.BitLen() && masked(a, w.mask) == w.addr
}

func masked(a, mask netip.Addr) netip.Addr {
	b := a.AsSlice()
	for i, m := range mask.AsSlice() {
		b[i] &= m
	}
	out, _ := netip.AddrFromSlice(b)
	return out
}

// A Problem is a line that is skipped.
type Problem struct {
	File string // "" is the file itself, otherwise one that it includes
	Line int
	What string
}

func (p Problem) String() string {
	if p.File != "" {
		return fmt.Sprintf("%s: line %d: %s", p.File, p.Line, p.What)
	}
	return fmt.Sprintf("line %d: %s", p.Line, p.What)
}

// Parse reads rules; include gives the text of a file that stands as @file for
// names, by the name as written.
func Parse(text string, include func(name string) (string, error)) (Rules, []Problem) {
	var rules Rules
	var problems []Problem
	line := 0
	for raw := range strings.Lines(text) {
		line++
		p := &parser{rest: strings.TrimRight(raw, "\r\n"), include: include, files: new(int)}
		p.next()
		if p.kind == end {
			continue
		}
		r, err := p.rule()
		if err != nil {
			problems = append(problems, Problem{Line: line, What: err.Error()})
			continue
		}
		r.Line = line
		rules = append(rules, r)
	}
	return rules, problems
}

// Kinds of tokens.
type kind int

const (
	word   kind = iota // bare
	quoted             // never a keyword
	comma
	end
	broken // a quote that does not end
)

// includeMax bounds how many files one line's names may come from, each as often
// as it is included: files that include each other end there.
const includeMax = 100

type parser struct {
	rest    string
	kind    kind
	text    string
	files   *int // included for this line so far
	include func(string) (string, error)
}

const blank = " \t\v\f\r\n"

// next reads the next token.
func (p *parser) next() {
	p.rest = strings.TrimLeft(p.rest, blank)
	p.text = ""
	switch {
	case p.rest == "" || p.rest[0] == '#':
		p.kind, p.rest = end, ""
	case p.rest[0] == ',':
		p.kind, p.rest = comma, p.rest[1:]
	case p.rest[0] == '"':
		p.kind = broken
		var b strings.Builder
		for i := 1; i < len(p.rest); i++ {
			if p.rest[i] == '"' {
				if i+1 == len(p.rest) || p.rest[i+1] != '"' {
					p.kind, p.text, p.rest = quoted, b.String(), p.rest[i+1:]
					return
				}
				i++
			}
			b.WriteByte(p.rest[i])
		}
	default:
		n := strings.IndexAny(p.rest, blank+`,#"`)
		if n < 0 {
			n = len(p.rest)
		}
		p.kind, p.text, p.rest = word, p.rest[:n], p.rest[n:]
	}
}

// take reads a bare word and goes on.
func (p *parser) take() (string, bool) {
	if p.kind != word {
		return "", false
	}
	text := p.text
	p.next()
	return text, true
}

func (p *parser) rule() (r Rule, err error) {
	r.kind, _ = p.take()
	switch r.kind {
	case "local", "host", "hostssl", "hostnossl":
	case "hostgssenc", "hostnogssenc":
		return r, fmt.Errorf("%s is not supported", r.kind)
	default:
		return r, fmt.Errorf("unknown type %q", r.kind)
	}
	if r.databases, err = p.names(true); err != nil {
		return r, fmt.Errorf("database: %w", err)
	}
	if r.users, err = p.names(false); err != nil {
		return r, fmt.Errorf("user: %w", err)
	}
	if r.kind != "local" {
		if r.where, err = p.where(); err != nil {
			return r, err
		}
	}
	method, _ := p.take()
	r.Method = Method(method)
	switch {
	case !slices.Contains(methods, r.Method):
		return r, fmt.Errorf("method %q is not supported", method)
	case r.Method == Peer && r.kind != "local":
		return r, fmt.Errorf("peer needs a unix socket: write local")
	case r.Method == Cert && r.kind != "hostssl":
		return r, fmt.Errorf("cert needs TLS: write hostssl")
	}
	for p.kind != end {
		option, ok := p.take()
		name, value, _ := strings.Cut(option, "=")
		switch {
		case !ok || name != "map":
			return r, fmt.Errorf("parameter %q is not supported", option)
		case r.Method != Cert && r.Method != Peer:
			return r, fmt.Errorf("map= is for cert and peer")
		case value == "" && p.kind == quoted:
			value = p.text
			p.next()
		}
		r.Map = value
	}
	return r, nil
}

// names reads a list. Quoting takes from a word what it means.
func (p *parser) names(databases bool) (n names, err error) {
	for {
		switch {
		case p.kind == quoted:
			n.list = append(n.list, p.text)
		case p.kind != word:
			return n, fmt.Errorf("a name expected")
		case p.text == "all":
			n.all = true
		case databases && p.text == "sameuser":
			n.sameuser = true
		case databases && p.text == "replication":
			n.replication = true
		case databases && (p.text == "samerole" || p.text == "samegroup"), p.text[0] == '+', p.text[0] == '/':
			return n, fmt.Errorf("%s is not supported", p.text)
		case p.text[0] == '@':
			if err := p.file(&n, p.text[1:], databases); err != nil {
				return n, err
			}
		default:
			n.list = append(n.list, p.text)
		}
		p.next()
		if p.kind != comma {
			return n, nil
		}
		p.next()
	}
}

// file adds the names of a file: lists, one or more on a line.
func (p *parser) file(n *names, name string, databases bool) error {
	if p.include == nil || *p.files == includeMax {
		return fmt.Errorf("@%s is not included", name)
	}
	*p.files++
	text, err := p.include(name)
	if err != nil {
		return fmt.Errorf("@%s: %w", name, err)
	}
	line := 0
	for raw := range strings.Lines(text) {
		line++
		q := &parser{rest: strings.TrimRight(raw, "\r\n"), include: p.include, files: p.files}
		for q.next(); q.kind != end; {
			more, err := q.names(databases)
			if err != nil {
				return fmt.Errorf("@%s line %d: %w", name, line, err)
			}
			n.all, n.sameuser, n.replication = n.all || more.all, n.sameuser || more.sameuser, n.replication || more.replication
			n.list = append(n.list, more.list...)
		}
	}
	return nil
}

// where reads an address, which may be followed by its mask.
func (p *parser) where() (w where, err error) {
	text, ok := p.take()
	if !ok {
		return w, fmt.Errorf("an address expected")
	}
	if text == "all" || text == "samehost" || text == "samenet" {
		return where{word: text}, nil
	}
	address, bits, cidr := strings.Cut(text, "/")
	w.addr, err = netip.ParseAddr(address)
	if err != nil || w.addr.Zone() != "" {
		return w, fmt.Errorf("%q is no address; names of hosts are not supported", text)
	}
	if cidr {
		n, err := strconv.ParseUint(bits, 10, 8)
		if err != nil || int(n) > w.addr.BitLen() {
			return w, fmt.Errorf("the mask of %q is not one", text)
		}
		w.mask = bitmask(w.addr.BitLen(), int(n))
	} else {
		mask, _ := p.take()
		w.mask, err = netip.ParseAddr(mask)
		if err != nil || w.mask.BitLen() != w.addr.BitLen() {
			return w, fmt.Errorf("%q is followed by no mask", text)
		}
	}
	// PgBouncer warns, and then such a rule matches nobody.
	if masked(w.addr, w.mask) != w.addr {
		return w, fmt.Errorf("%s has bits that its mask does not", text)
	}
	return w, nil
}

func bitmask(length, ones int) netip.Addr {
	b := make([]byte, length/8)
	for i := range ones {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
