package take

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"howdah/backup/server"
)

// A backup waits for standbys that fall behind, until they are half as far, or the limit
// is over; a look that fails holds nobody.
func TestBrake(t *testing.T) {
	const most = 100
	for _, tt := range []struct {
		name string
		from string
		lags [][]server.Behind // at each second; the last stays
		want []string          // what it told
		held time.Duration     // how long it held
	}{
		{"nobody is behind", "", [][]server.Behind{{{Name: "b", Flush: most, Replay: 900}}}, nil, 0},
		{"one is, and catches up", "", [][]server.Behind{{{Name: "b", Flush: 0}, {Name: "c", Flush: 150}}, {{Name: "c", Flush: 80}}, {{Name: "c", Flush: 50}}}, []string{"c to catch up, which is 150B behind", ""}, 2 * time.Second},
		{"of whom is read replay counts", "b", [][]server.Behind{{{Name: "b", Replay: 150}, {Name: "c", Replay: 900}}, {}}, []string{"b to catch up, which is 150B behind", ""}, time.Second},
		{"nobody can say any more", "", [][]server.Behind{{{Name: "c", Flush: 150}}, nil}, []string{"c to catch up, which is 150B behind", ""}, time.Second},
		{"it does not catch up", "", [][]server.Behind{{{Name: "c", Flush: 150}}}, []string{"c to catch up, which is 150B behind", ""}, 61 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told []string
				looks := 0
				b := &brake{most: most, from: tt.from, every: time.Second, limit: time.Minute, tell: func(s string) { told = append(told, s) }, behind: func(context.Context) ([]server.Behind, error) {
					at := tt.lags[min(looks, len(tt.lags)-1)]
					if looks++; at == nil {
						return nil, errors.New("it is gone")
					}
					return at, nil
				}}
				b.look(t.Context())
				quit := make(chan struct{})
				var run sync.WaitGroup
				run.Go(func() { b.run(t.Context(), quit) })
				began := time.Now()
				if err := b.wait(t.Context()); err != nil {
					t.Error(err)
				}
				if held := time.Since(began); held != tt.held {
					t.Errorf("held for %s, want %s", held, tt.held)
				}
				time.Sleep(time.Hour)
				if err := b.wait(t.Context()); err != nil {
					t.Error(err)
				}
				close(quit)
				run.Wait()
				if !slices.Equal(told, tt.want) {
					t.Errorf("told %q, want %q", told, tt.want)
				}
			})
		})
	}
}

// Who is held when all is called off goes at once.
func TestBrakeCalledOff(t *testing.T) {
	b := &brake{}
	b.hold("c")
	why := errors.New("called off")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := b.wait(ctx); !errors.Is(err, why) {
		t.Error(err)
	}
	b.release()
	if err := b.wait(t.Context()); err != nil {
		t.Error(err)
	}
}
