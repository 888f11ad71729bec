package pooler

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/pgwire"
)

// secretQuery is PgBouncer's default auth_query, of which the schema is named:
// nobody's search_path matters.
const secretQuery = `SELECT CASE WHEN rolvaliduntil < pg_catalog.now() THEN NULL ELSE rolpassword END
FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin`

// A Roll asks a server who may log in, as its superuser.
type Roll struct {
	Config *pgconn.Config
	Wait   time.Duration // for a server that is not there, or starts
	// Else asks somebody else while the server is not there; nil: nobody is.
	Else func(ctx context.Context, user string) (secret string, known bool, err error)

	mu   sync.Mutex // one question at a time
	conn *pgconn.PgConn
}

// NewRoll asks the server of the socket directory.
func NewRoll(sockets string, port int, superuser string, wait time.Duration) (*Roll, error) {
	c, err := pgconn.ParseConfig("")
	if err != nil {
		return nil, err
	}
	c.Host, c.Port, c.User, c.Database, c.Password = sockets, uint16(port), superuser, "postgres", ""
	c.TLSConfig, c.Fallbacks, c.ConnectTimeout = nil, nil, 3*time.Second
	c.RuntimeParams = map[string]string{"application_name": "howdah pooler"}
	return &Roll{Config: c, Wait: wait}, nil
}

// retryRoll is the pause before a server that is not there is asked again.
const retryRoll = 100 * time.Millisecond

// Secret is what the server stores of user's password. Whoever logs in while the
// server is away waits for it.
func (r *Roll) Secret(ctx context.Context, user string) (secret string, known bool, err error) {
	if r.Wait > 0 {
		var stop func()
		ctx, stop = context.WithTimeout(ctx, r.Wait)
		defer stop()
	}
	for {
		secret, known, err = r.Once(ctx, user)
		if err != nil && r.Else != nil {
			if other, is, failed := r.Else(ctx, user); failed == nil {
				return other, is, nil
			}
		}
		if err == nil || ctx.Err() != nil {
			return secret, known, err
		}
		if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code != pgwire.CannotConnectNow && e.Code != "57P01" && e.Code != "57P02" {
			return "", false, err
		}
		t := time.NewTimer(retryRoll)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return "", false, err
		}
	}
}

// Once asks once, without waiting for a server that is not there.
func (r *Roll) Once(ctx context.Context, user string) (secret string, known bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for again := range 2 {
		fresh := r.conn == nil || r.conn.IsClosed()
		if fresh {
			if r.conn, err = pgconn.ConnectConfig(ctx, r.Config); err != nil {
				return "", false, err
			}
		}
		result := r.conn.ExecParams(ctx, secretQuery, [][]byte{[]byte(user)}, nil, nil, nil).Read()
		if err = result.Err; err == nil {
			switch {
			case len(result.Rows) == 0:
				return "", false, nil
			case len(result.Rows[0]) != 1:
				return "", false, fmt.Errorf("pg_authid: %d columns", len(result.Rows[0]))
			}
			return string(result.Rows[0][0]), true, nil
		}
		_ = r.conn.Close(context.WithoutCancel(ctx))
		r.conn = nil
		if fresh || again > 0 {
			return "", false, err
		}
	}
	return "", false, err
}

// Close ends the connection.
func (r *Roll) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != nil {
		ctx, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		_ = r.conn.Close(ctx)
		r.conn = nil
	}
}

// Local connects to the server of the socket directory.
func Local(sockets string, port int) func(context.Context) (Backend, error) {
	path := filepath.Join(sockets, ".s.PGSQL."+strconv.Itoa(port))
	dial := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return func(ctx context.Context) (Backend, error) {
		conn, err := dial(ctx)
		return Backend{Conn: conn, Again: dial}, err
	}
}
