package lifecycle

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestPartsStopInReverseOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		part := func(name string) Part {
			return Part{Name: name, Grace: time.Minute, Run: func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Second) // the next one must wait for this
				order = append(order, name)
				return ctx.Err()
			}}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := Run(ctx, part("a"), part("b"), part("c")); err != nil {
			t.Errorf("Run = %v; want nil", err)
		}
		if want := []string{"c", "b", "a"}; !slices.Equal(order, want) {
			t.Errorf("stopped in order %v; want %v", order, want)
		}
	})
}

func TestOnePartThatFailsEndsAll(t *testing.T) {
	boom := errors.New("boom")
	err := Run(t.Context(),
		Part{Name: "a", Grace: time.Minute, Run: func(ctx context.Context) error { <-ctx.Done(); return nil }},
		Part{Name: "b", Grace: time.Minute, Run: func(context.Context) error { return boom }})
	if !errors.Is(err, boom) {
		t.Errorf("Run = %v; want boom", err)
	}
}

func TestAStuckPartIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		release := make(chan struct{})
		err := Run(ctx, Part{Name: "mule", Grace: time.Second, Run: func(context.Context) error { <-release; return nil }})
		close(release)
		if !errors.Is(err, ErrStuck) {
			t.Errorf("Run = %v; want ErrStuck", err)
		}
	})
}
