package collect

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A state is what the health paths answer.
type state string

const (
	primary  state = "primary"
	replica  state = "replica"
	starting state = "starting"
	down     state = "down"
	unknown  state = "unknown"
)

// stale is when a state must be asked for anew. Nobody asks, nothing is done:
// that is why there is no loop that looks every second.
const stale = time.Second

// health is the server's state, over a connection of its own: a scrape that
// hangs does not make it unknown.
type health struct {
	mu    sync.Mutex // held while the server is asked: whoever comes meanwhile gets that answer
	state state
	at    time.Time
	conn  *pgconn.PgConn
	born  time.Time
}

func (h *health) get(ctx context.Context, config *pgconn.Config, pooler bool, connect time.Duration) state {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state != "" && time.Since(h.at) < stale {
		return h.state
	}
	h.state = h.ask(context.WithoutCancel(ctx), config, pooler, connect)
	h.at = time.Now()
	return h.state
}

func (h *health) ask(ctx context.Context, config *pgconn.Config, pooler bool, connect time.Duration) state {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if h.conn != nil && h.conn.IsClosed() {
		select {
		case <-h.conn.CleanupDone():
			h.conn = nil
		default:
			return down // it answers not even a cancel request
		}
	}
	if h.conn != nil && time.Since(h.born) > lifetime {
		_ = h.conn.Close(ctx)
		h.conn = nil
	}
	if h.conn == nil {
		within, cancel := context.WithTimeout(ctx, max(connect, patience/2))
		defer cancel()
		conn, err := pgconn.ConnectConfig(within, config)
		if err != nil {
			if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "57P03" {
				return starting // or stopping, which nobody should use either
			}
			return down
		}
		h.conn, h.born = conn, time.Now()
	}
	sql := "SELECT pg_is_in_recovery()"
	if pooler {
		sql = "SHOW VERSION"
	}
	results, err := h.conn.Exec(ctx, sql).ReadAll()
	switch {
	case err != nil:
		_ = h.conn.Close(ctx) // the next one asks over a new connection
		return down
	case len(results) == 0 || len(results[0].Rows) == 0:
		return unknown
	case !pooler && string(results[0].Rows[0][0]) == "t":
		return replica
	}
	return primary
}

// tidy closes a connection that has lived long enough.
func (h *health) tidy() {
	h.mu.Lock()
	old := h.conn != nil && !h.conn.IsClosed() && time.Since(h.born) > lifetime
	h.mu.Unlock()
	if old {
		h.close()
	}
}

func (h *health) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = h.conn.Close(ctx)
		h.conn = nil
	}
}
