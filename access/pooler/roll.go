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

	asker asker
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
	result, err := r.asker.ask(ctx, r.Config.Copy, secretQuery, []byte(user))
	switch {
	case err != nil || len(result.Rows) == 0:
		return "", false, err
	case len(result.Rows[0]) != 1:
		return "", false, fmt.Errorf("pg_authid: %d columns", len(result.Rows[0]))
	}
	return string(result.Rows[0][0]), true, nil
}

// Close ends the connection.
func (r *Roll) Close() { r.asker.close() }

// An asker is a connection on which one question is asked at a time.
type asker struct {
	mu   sync.Mutex
	conn *pgconn.PgConn
}

// ask connects if there is no connection, or if that of before has ended. config is asked for each anew.
func (a *asker) ask(ctx context.Context, config func() *pgconn.Config, query string, args ...[]byte) (*pgconn.Result, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := ctx.Err(); err != nil { // others came first
		return nil, err
	}
	for {
		fresh := a.conn == nil || a.conn.IsClosed()
		if fresh {
			var err error
			if a.conn, err = pgconn.ConnectConfig(ctx, config()); err != nil {
				return nil, err
			}
		}
		result := a.conn.ExecParams(ctx, query, args, nil, nil, nil).Read()
		if result.Err == nil {
			return result, nil
		}
		_ = a.conn.Close(context.WithoutCancel(ctx))
		a.conn = nil
		if fresh {
			return nil, result.Err
		}
	}
}

func (a *asker) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != nil {
		ctx, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		_ = a.conn.Close(ctx)
		a.conn = nil
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
