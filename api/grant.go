package api

import (
	"crypto/x509"
	"encoding/json"
	"net/http"
	"time"

	"howdah/cluster"
	"howdah/ha"
	"howdah/pg"
)

// A granted right is what a gateway on another machine may rely on: that this
// member's PostgreSQL may answer as the primary of Epoch for Right from the
// moment the gateway *asked*, which was before the answer was made.
type granted struct {
	Member string        `json:"member"`
	Epoch  int64         `json:"epoch"`
	Right  time.Duration `json:"right"` // nanoseconds; 0: none
}

// grant tells another node of the cluster what right is left. The answer is made
// of the lease page, which ends by itself whatever becomes of the agent.
func (s *Server) grant(w http.ResponseWriter, r *http.Request) {
	if !s.peer(r) {
		text(w, http.StatusForbidden, "a certificate of the cluster's nodes is required")
		return
	}
	g := granted{Member: s.Node.Member}
	m, page := s.now(), s.Page()
	if m.Server.Process != pg.ProcessFrozen {
		// Under maintenance a primary's right has no end; whoever relies on it asks again all the same.
		g.Right = max(0, min(page.Deadline-m.now, s.Node.Agent.Timers.Lease))
	}
	if g.Right > 0 {
		g.Epoch = page.Epoch
	}
	answer(w, http.StatusOK, g)
}

// word asks this member for its word that it will not take over from who asks.
func (s *Server) word(w http.ResponseWriter, r *http.Request) {
	if !s.peer(r) {
		text(w, http.StatusForbidden, "a certificate of the cluster's nodes is required")
		return
	}
	var asked cluster.Word
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyBytes)).Decode(&asked); err != nil {
		text(w, http.StatusBadRequest, err.Error())
		return
	}
	if asked.Epoch <= 0 {
		text(w, http.StatusBadRequest, "the epoch is not named")
		return
	}
	err := s.Agree(r.Context(), ha.Plea{Name: asked.Name, Epoch: asked.Epoch, For: asked.For})
	asked.Member, asked.Given, asked.Why = s.Node.Member, err == nil, ""
	if err != nil {
		asked.Why = err.Error()
	}
	answer(w, http.StatusOK, asked)
}

// standing says by what this member leads, or to whom its word is given. The store is
// not asked: it is what a person sees while that one is silent.
func (s *Server) standing(w http.ResponseWriter) {
	m := s.now()
	said := cluster.Standing{Member: s.Node.Member}
	if m.leads() {
		said.Right, said.By = m.Until-m.now, m.By
	}
	if left := m.Given.Until - m.now; left > 0 {
		said.Leader, said.Given = m.State.LeaderName(), left
	}
	answer(w, http.StatusOK, said)
}

// peer says that whoever asks has a certificate of the cluster's own authority.
func (s *Server) peer(r *http.Request) bool {
	if s.Peers == nil || r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return false
	}
	between := x509.NewCertPool()
	for _, c := range r.TLS.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := r.TLS.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: s.Peers.Trusted(), Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err == nil
}
