package api

import (
	"net/http"
	"reflect"
	"time"

	"howdah/ha"
	"howdah/problem"
)

// patchConfig merges the body into the dynamic configuration.
func (s *Server) patchConfig(w http.ResponseWriter, r *http.Request) {
	body, ok := object(w, r, false)
	if !ok {
		return
	}
	c, err := s.Cluster.PatchConfig(r.Context(), body)
	switch {
	case problem.Code(err) == "config-conflict":
		text(w, http.StatusConflict, err.Error())
	case problem.Code(err) == "config-invalid":
		text(w, http.StatusBadRequest, err.Error())
	case err != nil:
		text(w, http.StatusServiceUnavailable, err.Error())
	default:
		s.seen(r, c.Mod)
		answer(w, http.StatusOK, c.Data)
	}
}

// putConfig replaces the dynamic configuration.
func (s *Server) putConfig(w http.ResponseWriter, r *http.Request) {
	body, ok := object(w, r, false)
	if !ok {
		return
	}
	if !reflect.DeepEqual(body, s.now().State.Config.Data) {
		c, err := s.Cluster.PutConfig(r.Context(), body, -1)
		switch {
		case problem.Code(err) == "config-invalid":
			text(w, http.StatusBadRequest, err.Error())
			return
		case err != nil:
			text(w, http.StatusBadGateway, err.Error())
			return
		}
		s.seen(r, c.Mod)
	}
	answer(w, http.StatusOK, body)
}

// seen waits a moment until this agent, too, has heard of what was just put, so
// that whoever put it finds it here.
func (s *Server) seen(r *http.Request, rev int64) {
	const patience = time.Second
	s.await(r.Context(), patience, func(shown ha.Shown) bool { return shown.State.Revision >= rev })
}
