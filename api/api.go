// Package api answers over HTTP for one agent: Patroni's health checks and REST
// interface, so that balancers, patronictl and exporters work as they did, and
// the grants by which a gateway on another machine knows how long it may
// believe this node's PostgreSQL.
//
// An answer about this node comes from what the agent knew after its last turn,
// judged against the clock at the moment of the answer; the store is not read
// for it, and the agent is never waited for. What changes something goes through
// control, as from every other door. Paths, texts and codes are Patroni's
// (patroni/api.py); the tests in test/compat ask them with its own clients.
package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"howdah/cluster"
	"howdah/control"
	"howdah/ha"
	"howdah/latest"
	"howdah/secret"
	"howdah/spec"
)

// Options are what the interface needs of its agent.
type Options struct {
	Node     spec.Node
	Shown    *latest.Value[ha.Shown]
	Cluster  *control.Cluster
	Boot     func() time.Duration // CLOCK_BOOTTIME
	Page     func() Right         // what the lease page says now
	Password secret.Text          // of Node.Agent.REST.User
	Peers    Peers                // how nodes know each other; nil: they do not, and nobody is granted anything
	// Agree gives this member's word to a leader that lost the store, or says why not.
	Agree func(context.Context, ha.Plea) error
	Log   *slog.Logger
}

// A Right is what the lease page says about this node's primary; the zero Right
// is that of a node that is none.
type Right struct {
	Epoch    int64
	Deadline time.Duration // boot clock
}

// Peers are the nodes of the cluster, by the certificates that count now.
type Peers interface {
	Server() *tls.Config // how they are listened to
	Trusted() *x509.CertPool
}

// A Server is the interface of one agent.
type Server struct {
	Options
	own   map[string]http.HandlerFunc // by method and first part of the path; what is not here is a health check
	reads chan struct{}               // one for everyone who reads the store
	asks  chan struct{}               // one for everyone who changes something
	tls   atomic.Pointer[tls.Config]  // of Node.Agent.REST; nil: none
	files files                       // of that, as they were seen last
	peers *tls.Config                 // for nodes that ask another; nil: none
}

// New returns the interface. Run serves it.
func New(o Options) *Server {
	s := &Server{Options: o, reads: make(chan struct{}, 4), asks: make(chan struct{}, 16)}
	if o.Peers != nil {
		s.peers = o.Peers.Server()
	}
	s.again()
	s.own = map[string]http.HandlerFunc{
		"GET patroni": s.patroni, "GET cluster": s.cluster, "GET history": s.history, "GET config": s.config,
		"GET failsafe": s.failsafe, "GET metrics": s.metrics, "GET liveness": s.liveness, "GET readiness": s.readiness,
		"HEAD liveness": s.liveness, "HEAD readiness": s.readiness, "OPTIONS liveness": s.liveness, "OPTIONS readiness": s.readiness,
		"GET howdah": s.ours, "POST howdah": s.ours,
	}
	for path, h := range map[string]http.HandlerFunc{
		"PATCH config": s.patchConfig, "PUT config": s.putConfig, "POST reload": s.reload, "POST restart": s.restart,
		"DELETE restart": s.unschedule, "POST switchover": s.switchover, "POST failover": s.failover, "DELETE switchover": s.cancel,
		"POST reinitialize": s.reinitialize, "POST failsafe": s.peerFailsafe, "POST sigterm": s.sigterm,
	} {
		s.own[path] = s.unsafe(h)
	}
	return s
}

// ServeHTTP finds the handler as Patroni does: by the method and the first part
// of the path, and any other GET, HEAD or OPTIONS is a health check.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	first, _, _ := strings.Cut(strings.TrimLeft(r.URL.Path, "/"), "/")
	if h, ok := s.own[r.Method+" "+first]; ok && first != "" {
		h(w, r)
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		s.check(w, r)
	default:
		text(w, http.StatusNotImplemented, "Unsupported method ('"+r.Method+"')")
	}
}

// unsafe guards what changes something: who may, and how many at once.
func (s *Server) unsafe(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.may(w, r) {
			return
		}
		select {
		case s.asks <- struct{}{}:
			defer func() { <-s.asks }()
			h(w, r)
		default:
			text(w, http.StatusServiceUnavailable, "too many requests are under way")
		}
	}
}

// long lets an answer take as long as it has to.
func long(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{}) // the body was read
	_ = c.SetWriteDeadline(time.Time{})
}

// ours are the paths that Patroni does not have.
func (s *Server) ours(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/howdah/grant" && r.Method == http.MethodGet:
		s.grant(w, r)
		return
	case r.URL.Path == cluster.StandingPath && r.Method == http.MethodGet:
		s.standing(w)
		return
	case r.URL.Path == cluster.WordPath && r.Method == http.MethodPost:
		s.word(w, r)
		return
	}
	text(w, http.StatusNotFound, "no such path")
}

// now is one moment of this node, at which a request is answered.
func (s *Server) now() moment {
	shown, _ := s.Shown.Get()
	return moment{Shown: shown, now: s.Boot(), view: s.Node.Agent.Timers.Lease}
}
