package collect

import (
	"context"
	"net/http"

	"howdah/exposition"
)

// Told has tell answer /metrics: once at a time, so that whatever hangs under it
// hangs once. Who waits for longer than a scrape may take gets no answer.
func Told(tell func(ctx context.Context) []byte) http.Handler {
	turn := make(chan struct{}, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), budget)
		defer cancel()
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			http.Error(w, "another scrape takes too long", http.StatusServiceUnavailable)
			return
		}
		defer func() { <-turn }()
		w.Header().Set("Content-Type", exposition.ContentType)
		_, _ = w.Write(tell(ctx)) // who has gone asks again
	})
	return mux
}
