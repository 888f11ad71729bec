package stanza

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"howdah/backup/repo"
	"howdah/backup/repo/mem"
)

func shared(store repo.Storage) *Stanza { return &Stanza{Storage: store, Name: "t", Repo: 1} }

// One host at a time, for as long as it lives.
func TestClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &mem.Store{}
		ctx, release, err := shared(store).Claim(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // it is renewed meanwhile
		if _, _, err := shared(store).Claim(t.Context(), nil); repo.ClassOf(err) != repo.LockAcquire {
			t.Errorf("a second claim: %v", err)
		}
		if ctx.Err() != nil {
			t.Errorf("the first lost it: %v", context.Cause(ctx))
		}
		release()
		_, again, err := shared(store).Claim(t.Context(), nil)
		if err != nil {
			t.Fatalf("after it was given back: %v", err)
		}
		again()
		if _, _, err := store.Tagged(t.Context(), shared(store).claimName()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the claim is still there: %v", err)
		}
	})
}

// What a holder left that died is waited for, and taken; by one of those who wait.
func TestClaimOfTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &mem.Store{}
		if _, err := store.Swap(t.Context(), shared(store).claimName(), "", []byte(`{"id":"x","host":"db-1","pid":7}`)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		results := make(chan func(), 2)
		for range 2 {
			go func() {
				_, release, err := shared(store).Claim(t.Context(), nil)
				if err != nil && repo.ClassOf(err) != repo.LockAcquire {
					t.Error(err)
				}
				results <- release
			}()
		}
		a, b := <-results, <-results
		if (a == nil) == (b == nil) {
			t.Errorf("of two who waited for a dead one, both or none have it")
		}
		if waited := time.Since(began); waited < patience {
			t.Errorf("it was taken after %s: its holder might have lived", waited)
		}
		for _, release := range []func(){a, b} {
			if release != nil {
				release()
			}
		}
	})
}

// A holder that was away too long learns that it holds nothing any more, and
// leaves the claim to whom it belongs.
func TestClaimIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &mem.Store{}
		name := shared(store).claimName()
		ctx, release, err := shared(store).Claim(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, tag, err := store.Tagged(t.Context(), name)
		if err == nil {
			_, err = store.Swap(t.Context(), name, tag, []byte(`{"id":"another"}`))
		}
		if err != nil {
			t.Fatal(err)
		}
		<-ctx.Done()
		if cause := context.Cause(ctx); repo.ClassOf(cause) != repo.LockAcquire {
			t.Errorf("it ended with %v", cause)
		}
		release()
		if data, _, err := store.Tagged(t.Context(), name); err != nil || string(data) != `{"id":"another"}` {
			t.Errorf("there is %s, %v", data, err)
		}
	})
}

// A store that stores whatever it is told is not taken for an arbiter.
type lax struct{ mem.Store }

func (l *lax) Swap(ctx context.Context, name, _ string, data []byte) (string, error) {
	if _, tag, err := l.Tagged(ctx, name); err == nil {
		return l.Store.Swap(ctx, name, tag, data)
	}
	return l.Store.Swap(ctx, name, "", data)
}

func TestClaimWithoutArbiter(t *testing.T) {
	store, warned := &lax{}, 0
	for range 2 {
		_, release, err := shared(store).Claim(t.Context(), func(_ slog.Level, _ string) { warned++ })
		if err != nil {
			t.Fatal(err)
		}
		defer release()
	}
	if warned != 2 {
		t.Errorf("%d warnings", warned)
	}
}
