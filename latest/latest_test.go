package latest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheSlowReaderSeesTheNewestOnly(t *testing.T) {
	var v Value[int]
	v.Set(1)
	v.Set(2)
	if got, seen, err := v.Wait(t.Context(), 0); got != 2 || seen != 2 || err != nil {
		t.Errorf("Wait(0) = %d, %d, %v; want 2, 2, nil", got, seen, err)
	}
}

func TestWaitWakesOnSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v Value[string]
		go func() {
			time.Sleep(time.Second)
			v.Set("new")
		}()
		if got, _, err := v.Wait(t.Context(), 0); got != "new" || err != nil {
			t.Errorf("Wait = %q, %v; want new", got, err)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	var v Value[int]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := v.Wait(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait = %v; want context.Canceled", err)
	}
}

func TestEveryReaderWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v Value[int]
		if got, version := v.Get(); got != 0 || version != 0 {
			t.Errorf("empty: %d, version %d", got, version)
		}
		got := make(chan int)
		for range 3 {
			go func() {
				n, _, _ := v.Wait(t.Context(), 0)
				got <- n
			}()
		}
		synctest.Wait() // all of them wait
		v.Set(7)
		for range 3 {
			if n := <-got; n != 7 {
				t.Errorf("a reader saw %d, want 7", n)
			}
		}
	})
}

func TestChangedIsForWhatWasNotSeen(t *testing.T) {
	var v Value[int]
	v.Set(1)
	_, seen := v.Get()
	changed := v.Changed(seen)
	select {
	case <-changed:
		t.Error("nothing new, but the channel is closed")
	case <-v.Changed(seen - 1):
	}
	v.Set(2)
	<-changed
}

// Writers and readers together: nobody ever sees an older value again.
func TestNeverBackwards(t *testing.T) {
	var v Value[uint64]
	const last = 1000
	done := make(chan struct{})
	for range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			for seen, n := uint64(0), uint64(0); n < last; {
				next, version, err := v.Wait(t.Context(), seen)
				if err != nil || next < n || version <= seen {
					t.Errorf("after %d (version %d) came %d (version %d), %v", n, seen, next, version, err)
					return
				}
				n, seen = next, version
			}
		}()
	}
	for n := range uint64(last) {
		v.Set(n + 1)
	}
	<-done
	<-done
}

func TestSetIf(t *testing.T) {
	var v Value[int]
	newer := func(n int) { v.SetIf(n, func(old int) bool { return n > old }) }
	newer(5)
	newer(3)
	if got, version := v.Get(); got != 5 || version != 1 {
		t.Errorf("got %d in version %d, want 5 in version 1: a refused value changes nothing", got, version)
	}
}
