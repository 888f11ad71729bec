package postgres

import (
	"context"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"howdah/pg"
)

// reach connects to another server, as conf.Conninfo says, by pgconn, which knows less of
// libpq's settings: it would send those of keepalives to the server. The connection ends when its
// other side is gone, as they say.
func reach(ctx context.Context, to pg.DSN) (*pgconn.PgConn, error) {
	var known pg.DSN
	for _, kv := range to {
		if !strings.HasPrefix(kv[0], "keepalives") && kv[0] != "tcp_user_timeout" {
			known = append(known, kv)
		}
	}
	config, err := pgconn.ParseConfig(known.String())
	if err != nil {
		return nil, err
	}
	config.DialFunc = (&net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
		Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 5000)
			})
		},
	}).DialContext
	return pgconn.ConnectConfig(ctx, config)
}
