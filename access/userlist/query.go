package userlist

import (
	"encoding/binary"
	"errors"
	"fmt"

	"howdah/pgwire"
	"howdah/secret"
)

// AppendQuery appends the messages that ask a server for user: an unnamed
// statement with one parameter of type text, and Sync.
func AppendQuery(b []byte, query, user string) []byte {
	b = pgwire.AppendMessage(b, 'P', "\x00", query, "\x00", "\x00\x00")
	// Unnamed portal and statement; the parameter and the results are text.
	length := binary.BigEndian.AppendUint32(nil, uint32(len(user)))
	b = pgwire.AppendMessage(b, 'B', "\x00\x00", "\x00\x00", "\x00\x01", string(length), user, "\x00\x00")
	b = pgwire.AppendMessage(b, 'E', "\x00", "\x00\x00\x00\x00")
	return pgwire.AppendMessage(b, 'S')
}

// A Lookup reads the answer to AppendQuery, message by message.
type Lookup struct {
	Name   string      // as the query gave it, which is who logs in
	Secret secret.Text // "" never matches; so it is for NULL
	Found  bool
	failed error
}

// ErrAnswer says that auth_query gave something else than a name and a secret.
var ErrAnswer = errors.New("bad answer of auth_query")

// Feed takes the server's next message; done with ReadyForQuery, and then err is
// what went wrong on the way. The server is usable again only after an answer
// that ended with transaction status idle.
func (l *Lookup) Feed(m pgwire.Message) (done bool, err error) {
	switch m.Type {
	case '1', '2', pgwire.CommandComplete, pgwire.EmptyQuery, pgwire.NoticeResponse, pgwire.ParameterStatus, 'n':
	case pgwire.DataRow:
		l.row(m.Body)
	case pgwire.ErrorResponse:
		r := pgwire.ReadReport(m.Body)
		l.fail(fmt.Errorf("%w: %s (SQLSTATE %s)", ErrAnswer, r.Message, r.Code))
	case pgwire.ReadyForQuery:
		if len(m.Body) != 1 || m.Body[0] != 'I' {
			l.fail(fmt.Errorf("%w: it left a transaction open", ErrAnswer))
		}
		if l.failed != nil {
			*l = Lookup{failed: l.failed}
		}
		return true, l.failed
	default:
		l.fail(fmt.Errorf("%w: message %q", ErrAnswer, m.Type))
		return true, l.failed
	}
	return false, nil
}

func (l *Lookup) fail(err error) {
	if l.failed == nil {
		l.failed = err
	}
}

// row reads a DataRow of a name and a secret.
func (l *Lookup) row(body []byte) {
	if l.Found {
		l.fail(fmt.Errorf("%w: more than one row", ErrAnswer))
		return
	}
	if len(body) < 2 || binary.BigEndian.Uint16(body) != 2 {
		l.fail(fmt.Errorf("%w: exactly two columns expected, a name and a secret", ErrAnswer))
		return
	}
	body = body[2:]
	var values [2]string
	var null [2]bool
	for i := range values {
		if len(body) < 4 {
			l.fail(fmt.Errorf("%w: a row that ends early", ErrAnswer))
			return
		}
		n := int32(binary.BigEndian.Uint32(body))
		body = body[4:]
		switch {
		case n == -1:
			null[i] = true
			continue
		case n < 0 || int64(n) > int64(len(body)):
			l.fail(fmt.Errorf("%w: a row that ends early", ErrAnswer))
			return
		}
		values[i], body = string(body[:n]), body[n:]
	}
	switch {
	case len(body) > 0:
		l.fail(fmt.Errorf("%w: a row that does not end", ErrAnswer))
	case null[0] || values[0] == "" || len(values[0]) > NameMax || len(values[1]) > SecretMax:
		l.fail(fmt.Errorf("%w: a name or secret of a length that none has", ErrAnswer))
	default:
		l.Name, l.Secret, l.Found = values[0], secret.Text(values[1]), true
	}
}
