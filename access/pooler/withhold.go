package pooler

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/logkey"
)

// A backend that waits for standbys to confirm its commit and is cancelled ends the wait, not
// the transaction: that is committed, visible to everybody, and may be lost with its host. So a
// cancel request is withheld while that is what its backend does, and delivered if the backend
// goes on to something else meanwhile (a procedure, the rest of a string of statements). What
// begins to wait between our look and the signal is cut short as ever, and its client hears
// 08007 (fate.go).

// Timing of what is withheld.
const (
	withholdMost  = time.Second // whoever cancels waits for the end of her request
	withholdEvery = 20 * time.Millisecond
	lookoutWithin = 3 * time.Second
)

// A Lookout asks a server, as its superuser, what one of its backends waits for.
type Lookout struct {
	Config func() *pgconn.Config // of the next connection
	asker  asker
}

// Waits says that the backend waits for standbys to confirm a commit.
func (l *Lookout) Waits(ctx context.Context, pid uint32) (bool, error) {
	ctx, stop := context.WithTimeout(ctx, lookoutWithin)
	defer stop()
	got, err := l.asker.ask(ctx, l.Config, fmt.Sprintf("SELECT 1 FROM pg_catalog.pg_stat_get_activity(%d) WHERE wait_event = 'SyncRep'", int32(pid)))
	return err == nil && len(got.Rows) > 0, err
}

// Close ends the connection.
func (l *Lookout) Close() { l.asker.close() }

// Withhold waits for as long as waits says that a process of the server waits for standbys, until
// withholdMost or the end of ctx: withheld says that it does to the end. first is called when it
// is found to. Where nobody can say, for waits is nil or does not get an answer, nothing is withheld.
func Withhold(ctx context.Context, pid uint32, waits func(context.Context, uint32) (bool, error), first func()) (withheld bool, err error) {
	if waits == nil {
		return false, nil
	}
	over := time.NewTimer(withholdMost)
	defer over.Stop()
	tick := time.NewTicker(withholdEvery)
	defer tick.Stop()
	for {
		is, err := waits(ctx, pid)
		if err != nil || !is {
			return withheld && err != nil, err
		}
		if !withheld {
			first()
		}
		withheld = true
		select {
		case <-tick.C:
		case <-over.C:
			return true, nil
		case <-ctx.Done():
			return true, nil
		}
	}
}

// withheldText is what a client hears whose cancel request is withheld.
const withheldText = "not canceled: the transaction is committed here, and waits for standbys to confirm that"

// frees says that the server may be sent a cancel request for what it did at turn.
func (s *server) frees(ctx context.Context, l *loop, turn uint64) bool {
	log := s.room.log
	waited := false
	withheld, err := Withhold(ctx, uint32(s.pid()), s.backend.Waits, func() {
		waited = true
		log.Info("cancel request withheld while a commit waits for standbys", "server", s.String())
		l.call(func() {
			if c := s.client; !s.hup && c != nil && s.turn == turn && !c.mute && !s.halfSaid() {
				c.deliver([][]byte{appendNotice(nil, 'N', "WARNING", "01000", withheldText)})
			}
		})
	})
	if err != nil {
		log.Warn("it is not known what a cancel request would end", "server", s.String(), logkey.Error, err)
	}
	if waited && !withheld { // what it was for may have ended meanwhile
		l.call(func() { withheld = s.hup || s.turn != turn })
	}
	return !withheld
}
