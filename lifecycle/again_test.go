package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		var said []string
		turn := 0
		part := Again(Part{Name: "metrics", Run: func(ctx context.Context) error {
			turn++
			switch turn {
			case 1:
				return errors.New("lost")
			case 2:
				panic("at the disco")
			case 3: // lives for long: the pauses begin anew
				time.Sleep(time.Minute)
				return nil
			case 4:
				cancel()
				<-ctx.Done()
				return ctx.Err()
			}
			t.Error("it runs after its end")
			return nil
		}}, func(name string, err error, pause time.Duration) {
			said = append(said, fmt.Sprintf("%s %v %v", name, err, pause))
		})
		if err := part.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("it ends with %v", err)
		}
		want := []string{"metrics lost 1s", "metrics panic: at the disco 2s", "metrics <nil> 1s"}
		if fmt.Sprint(said) != fmt.Sprint(want) {
			t.Errorf("said %q, want %q", said, want)
		}
		if took := time.Since(began); took != 64*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}
