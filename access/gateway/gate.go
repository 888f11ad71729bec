package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"howdah/access/route"
	"howdah/latest"
	"howdah/lease"
	"howdah/logkey"
	"howdah/pki"
)

// A gate is shut while the right of one reign to write is not proven. What its
// primary says stays with us then: it may be the answer to a commit that no
// later primary has.
type gate struct {
	source right
	epoch  int64
	front  *front
}

func (g *gate) open() bool { return g.source.open(g.epoch) }

// pass opens for something that the primary said.
func (g *gate) pass() bool { return g.open() && g.front.serves(g.epoch) }

// serves notes that a client hears the leader of epoch, and is true.
func (f *front) serves(epoch int64) bool {
	if was := f.served.Load(); was < epoch && f.served.CompareAndSwap(was, epoch) {
		f.stand(func(s *standing) {
			if epoch >= s.served {
				s.served, s.servedAt = epoch, time.Now().Round(0)
			}
		})
	}
	return true
}

// A right is where a gate looks.
type right interface {
	// open says whether the primary of that epoch may be heard now.
	open(epoch int64) bool
	// changed is closed when it may say otherwise; nil: look again.
	changed() <-chan struct{}
}

// lookAgain is how often a shut gate is looked at whose right tells nobody of a
// change: it lies in memory that another process writes.
const lookAgain = 5 * time.Millisecond

// shutFor is how long a session waits at a shut gate while the picture still
// names its primary: longer than any lease, so that it is not the primary's
// right that is missing but our way to the proof.
const shutFor = time.Minute

// never is the right of a leader of whom nothing can be asked.
type never struct{}

func (never) open(int64) bool          { return false }
func (never) changed() <-chan struct{} { return nil }

// page is the right of this node's own server: the lease page.
type page struct {
	mu sync.Mutex
	r  *lease.Reader
}

func newPage(path string) *page { return &page{r: lease.NewReader(path)} }

func (p *page) open(epoch int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	is, ok := p.r.Read()
	return ok && is.Epoch == epoch && is.Open(lease.Now())
}

func (p *page) changed() <-chan struct{} { return nil }

// Timing of grants.
const (
	renewEvery = 500 * time.Millisecond
	retryEvery = 100 * time.Millisecond
	askWithin  = 2 * time.Second // a busy machine shakes hands slowly, and a right lasts longer
	pokeEvery  = 20 * time.Millisecond
	linger     = 10 * time.Second // a grant that nobody needs is kept fresh this long: the next client finds it
	longest    = 10 * time.Second // no right counts longer without being asked again, whatever an agent says
)

// grantPath is where an agent says how long its server may be heard.
const grantPath = "/howdah/grant"

// granted is its answer.
type granted struct {
	Member string        `json:"member"`
	Epoch  int64         `json:"epoch"`
	Right  time.Duration `json:"right"` // left at the moment of the answer, in nanoseconds; 0: none
}

// grants are the rights of servers elsewhere, asked of their agents for as long
// as a session needs them.
type grants struct {
	client *http.Client
	peers  *pki.Peers
	log    *slog.Logger

	mu  sync.Mutex
	all map[string]*grant // by member and URL
	wg  sync.WaitGroup
	ctx context.Context
	end context.CancelFunc
}

// A grant is the right of one member.
type grant struct {
	member string
	url    string
	newest latest.Value[given]
	poke   chan struct{} // somebody needs another than the newest
	shown  int           // which certificates its connection began with, by pki.Peers.Times; whoever asks has it
	refs   int           // sessions that need it; under grants.mu
	idle   time.Time     // since when there is none
}

// given is a right on our own boot clock.
type given struct {
	epoch    int64
	deadline time.Duration
}

func newGrants(peers *pki.Peers, log *slog.Logger) *grants {
	g := &grants{peers: peers, log: log, all: map[string]*grant{}}
	g.ctx, g.end = context.WithCancel(context.Background())
	g.client = &http.Client{
		Timeout: askWithin,
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, DialTLSContext: peers.Dial(&net.Dialer{Timeout: askWithin}),
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return g
}

// run ends every renewal when ctx ends.
func (g *grants) run(ctx context.Context) error {
	<-ctx.Done()
	g.end()
	g.wg.Wait()
	g.client.CloseIdleConnections()
	return nil
}

// hold asks for the right of member until let is called as often: at once, if what
// is known is not that of the epoch.
func (g *grants) hold(member, api string, epoch int64) (*grant, error) {
	u, err := url.Parse(api)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("the agent of %s does not say where it is (%q)", member, api)
	}
	// Whatever a member publishes: a grant is asked over TLS, of the same host.
	at := (&url.URL{Scheme: "https", Host: u.Host, Path: grantPath}).String()
	g.mu.Lock()
	defer g.mu.Unlock()
	key := member + " " + at
	held := g.all[key]
	if held == nil {
		if g.ctx.Err() != nil {
			return nil, g.ctx.Err()
		}
		held = &grant{member: member, url: at, poke: make(chan struct{}, 1)}
		g.all[key] = held
		g.wg.Go(func() { g.renew(key, held) })
	}
	held.refs++
	if !held.open(epoch) {
		select {
		case held.poke <- struct{}{}:
		default:
		}
	}
	return held, nil
}

// let gives a hold up.
func (g *grants) let(held *grant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if held.refs--; held.refs == 0 {
		held.idle = time.Now()
	}
}

// renew keeps a grant fresh until nobody has needed it for a while.
func (g *grants) renew(key string, held *grant) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	said := ""
	var asked time.Time
	for {
		poke := held.poke
		if said != "" {
			poke = nil // it does not answer: it is asked often enough
		}
		select {
		case <-timer.C:
		case <-poke:
			if early := pokeEvery - time.Since(asked); early > 0 {
				timer.Reset(early)
				continue
			}
		case <-g.ctx.Done():
			return
		}
		asked = time.Now()
		g.mu.Lock()
		if held.refs == 0 && time.Since(held.idle) > linger {
			delete(g.all, key)
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		pause := renewEvery
		got, err := g.ask(held)
		if err == nil {
			held.newest.Set(got)
			if said != "" {
				g.log.Info("grant renewed", logkey.Member, held.member)
				said = ""
			}
		} else {
			pause = retryEvery
			if text := err.Error(); text != said && g.ctx.Err() == nil {
				g.log.Warn("no grant", logkey.Member, held.member, logkey.Error, err)
				said = text
			}
		}
		timer.Reset(pause)
	}
}

// ask asks once. The right is counted from before the question was sent: it may
// have been answered at once and the answer been late.
func (g *grants) ask(held *grant) (given, error) {
	req, err := http.NewRequestWithContext(g.ctx, http.MethodGet, held.url, nil)
	if err != nil {
		return given{}, err
	}
	// An agent judges each question by the certificate of its connection, and one of
	// an authority that is trusted no more is worth nothing.
	if now := g.peers.Times(); held.shown != now {
		g.client.CloseIdleConnections()
		held.shown = now
	}
	sent := lease.Now()
	resp, err := g.client.Do(req)
	if err != nil {
		return given{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	switch {
	case err != nil:
		return given{}, err
	case resp.StatusCode != http.StatusOK:
		return given{}, errors.New(resp.Status)
	}
	var is granted
	if err := json.Unmarshal(body, &is); err != nil {
		return given{}, err
	}
	if is.Member != held.member {
		return given{}, fmt.Errorf("%s answers as %q", held.url, is.Member)
	}
	return given{is.Epoch, sent + min(is.Right, longest)}, nil
}

func (h *grant) open(epoch int64) bool {
	is, _ := h.newest.Get()
	return is.epoch == epoch && lease.Now() < is.deadline
}

func (h *grant) changed() <-chan struct{} {
	_, seen := h.newest.Get()
	return h.newest.Changed(seen)
}

// right is what proves that the leader b may write, and how to let go of it.
func (f *front) right(b route.Backend) (right, func(), error) {
	g := f.gateway
	if b.Member == g.node.Member && f.Cluster == g.node.Cluster && f.Namespace == g.node.Namespace {
		return g.page, func() {}, nil
	}
	held, err := g.grants.hold(b.Member, b.API, b.Epoch)
	if err != nil {
		return nil, nil, err
	}
	return held, func() { g.grants.let(held) }, nil
}
