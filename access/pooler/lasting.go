package pooler

import (
	"bytes"

	"howdah/access/pool"
)

// lasts is something of a session that lasts beyond its transactions, which a client of a pool in
// transaction mode asks for: it stays with a server that others have next.
type lasts struct {
	key  pool.Key
	what string
}

// lastingOf names what a statement makes to last, as far as its first words tell; "": nothing.
func lastingOf(text []byte) string {
	text = bytes.TrimLeft(text, " \t\r\n")
	if len(text) == 0 {
		return ""
	}
	begins := func(words string) bool {
		return len(text) >= len(words) && bytes.EqualFold(text[:len(words)], []byte(words))
	}
	switch text[0] | 0x20 {
	case 'l':
		if begins("listen ") {
			return "LISTEN"
		}
	case 'p':
		if begins("prepare ") && !begins("prepare transaction") {
			return "PREPARE"
		}
	case 'c':
		for _, words := range []string{"create temp", "create local temp", "create global temp"} {
			if begins(words) {
				return "a temporary object"
			}
		}
	case 'd':
		if begins("declare ") && bytes.Contains(bytes.ToLower(text), []byte("with hold")) {
			return "a cursor WITH HOLD"
		}
	case 's':
		for _, words := range []string{"select pg_advisory_lock", "select pg_try_advisory_lock"} {
			if begins(words) {
				return "an advisory lock of a session"
			}
		}
	}
	return ""
}

// warn says once for each pool and thing in the log that somebody asks for what needs session mode.
func (c *client) warn(text []byte) {
	what := lastingOf(text)
	if what == "" || c.mode == pool.Session {
		return
	}
	d := c.room
	which := lasts{c.key, what}
	if d.lasting[which] {
		return
	}
	if d.lasting == nil {
		d.lasting = map[lasts]bool{}
	}
	d.lasting[which] = true
	d.log.Warn("this needs session mode or a session of untouched bytes: it stays with a server that others have next", "client", c.String(), "what", what)
}
