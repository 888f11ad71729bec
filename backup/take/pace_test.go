package take

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Several workers together read no faster than is said, none waits for ever, and who is
// called off does not wait at all.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(10 << 20)
		began := time.Now()
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if n, err := io.CopyBuffer(io.Discard, p.reader(t.Context(), struct{ io.Reader }{bytes.NewReader(make([]byte, 20<<20))}), make([]byte, 1<<20)); n != 20<<20 || err != nil {
					t.Errorf("%d bytes, %v", n, err)
				}
			})
		}
		all.Wait()
		// 60 MB at 10 MB/s, but for what each read first and last.
		if took := time.Since(began); took < 5500*time.Millisecond || took > 6*time.Second {
			t.Errorf("it took %s, want 6 s", took)
		}
		time.Sleep(time.Minute) // what was not used is not made up for
		began = time.Now()
		_ = p.take(t.Context(), 10<<20)
		_ = p.take(t.Context(), 1)
		if took := time.Since(began); took != time.Second {
			t.Errorf("after a rest 10 MB took %s, want 1 s", took)
		}
		off, end := context.WithCancelCause(t.Context())
		end(errors.New("called off"))
		_ = p.take(t.Context(), 100<<20)
		if err := p.take(off, 1); err == nil || err.Error() != "called off" {
			t.Errorf("who is called off hears %v", err)
		}
	})
}
