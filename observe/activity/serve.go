package activity

import (
	"encoding/json"
	"net/http"
	"strings"
)

// The doors by which another machine asks; who that is is for the listener to know.
const (
	PathNow        = "/howdah/activity"
	PathStatements = "/howdah/statements"
)

// Handle answers other machines.
func (s *Server) Handle(mux *http.ServeMux) {
	tell := func(w http.ResponseWriter, v any, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(v) // a client that went away is no matter
	}
	mux.HandleFunc("GET "+PathNow, func(w http.ResponseWriter, r *http.Request) {
		n, err := s.Now(r.Context())
		tell(w, n, err)
	})
	mux.HandleFunc("GET "+PathStatements, func(w http.ResponseWriter, r *http.Request) {
		texts, err := s.Statements(r.Context(), strings.Split(r.FormValue("ids"), ","))
		tell(w, texts, err)
	})
}
