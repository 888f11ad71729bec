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
