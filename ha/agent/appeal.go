package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/ha"
	"howdah/lease"
	"howdah/logkey"
	"howdah/nodefile"
	"howdah/pki"
	"howdah/spec"
)

const (
	appealFor = 2 * time.Second        // all of a round
	storeFor  = 500 * time.Millisecond // a store that answers within it is there
	wordFile  = "word.json"
)

// An appeals is what this agent asks others, and what it is asked.
type appeals struct {
	client *http.Client // nil: nodes do not know each other here, and nobody is asked
	asked  chan plea
	rounds chan ha.Round

	keeping sync.Mutex
	kept    ha.Grant
}

type plea struct {
	ha.Plea
	said chan agreed
}

type agreed struct {
	word ha.Grant
	err  error
}

func (a *appeals) open(peers *pki.Peers) {
	a.asked, a.rounds = make(chan plea), make(chan ha.Round, 1)
	if peers != nil {
		a.client = &http.Client{
			Transport: &http.Transport{
				DisableKeepAlives: true, DialTLSContext: peers.Dial(&net.Dialer{Timeout: appealFor}),
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
}

// Appeal implements Hands.
func (h *hands) Appeal(a ha.Appeal) {
	r := ha.Round{Epoch: a.Epoch, Sent: h.Boot(), For: a.For}
	urls := map[string]string{}
	for name := range strings.SplitSeq(a.To, "\n") {
		m, _ := h.state.Member(name)
		if u, err := url.Parse(m.APIURL); err == nil && u.Host != "" {
			urls[name] = (&url.URL{Scheme: "https", Host: u.Host, Path: cluster.WordPath}).String()
		}
	}
	if h.appeals.client == nil {
		urls = nil
	}
	h.begun.Go(func() {
		ctx, cancel := context.WithTimeout(h.ctx, appealFor)
		defer cancel()
		var mu sync.Mutex
		var wg sync.WaitGroup
		for name, at := range urls {
			wg.Go(func() {
				if err := h.askWord(ctx, name, at, cluster.Word{Name: h.node.Member, Epoch: a.Epoch, For: a.For}); err != nil {
					h.log.Warn("no word", logkey.Member, name, logkey.Error, err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				r.Granted = append(r.Granted, name)
			})
		}
		wg.Wait()
		h.appeals.rounds <- r
	})
}

func (h *hands) askWord(ctx context.Context, member, at string, w cluster.Word) error {
	body, err := json.Marshal(w)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := h.appeals.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return errors.New(resp.Status)
	}
	var said cluster.Word
	if err := json.Unmarshal(text, &said); err != nil {
		return err
	}
	switch {
	case said.Member != member:
		return fmt.Errorf("%s answers as %q", at, said.Member)
	case !said.Given:
		return errors.New(said.Why)
	case said.Epoch != w.Epoch || said.For != w.For:
		return fmt.Errorf("%s gave its word for epoch %d and %s", at, said.Epoch, said.For)
	}
	return nil
}

// Agree gives this member's word, unless it sees the store: there the key decides.
// The loop goes by it from before it is kept on disk, and it is given when it is.
func (h *hands) Agree(ctx context.Context, p ha.Plea) error {
	look, cancel := context.WithTimeout(ctx, storeFor)
	_, err := h.store.Do(look, dcs.Request{Kind: dcs.Read})
	cancel()
	if err == nil {
		return errors.New("the store is there")
	}
	asked := plea{p, make(chan agreed, 1)}
	select {
	case h.appeals.asked <- asked:
	case <-ctx.Done():
		return ctx.Err()
	}
	is := <-asked.said
	if is.err != nil {
		return is.err
	}
	a := &h.appeals
	a.keeping.Lock()
	defer a.keeping.Unlock()
	if a.kept.Epoch == is.word.Epoch && a.kept.Until >= is.word.Until {
		return nil
	}
	if err := keep(h.node, is.word); err != nil {
		return err
	}
	a.kept = is.word
	h.log.Info("word given", logkey.Member, p.Name, logkey.Epoch, p.Epoch, "for", p.For)
	return nil
}

// A kept word ends by this machine's boot clock, and counts anew after a boot.
type kept struct {
	Epoch int64         `json:"epoch"`
	Until time.Duration `json:"until"`
	For   time.Duration `json:"for"`
	Boot  string        `json:"boot"`
}

func keep(n spec.Node, g ha.Grant) error {
	boot, err := lease.BootID()
	if err != nil {
		return err
	}
	text, err := json.Marshal(kept{g.Epoch, g.Until, g.For, boot})
	if err != nil {
		return err
	}
	return nodefile.WriteFile(filepath.Join(n.Paths.Dir, wordFile), text, 0o600, -1, -1)
}

// wordOf is what a predecessor's word is now. One that cannot be read binds for as
// long as those that this cluster asks for.
func wordOf(n spec.Node) (ha.Grant, error) {
	text, err := os.ReadFile(filepath.Join(n.Paths.Dir, wordFile))
	if errors.Is(err, os.ErrNotExist) {
		return ha.Grant{}, nil
	}
	var k kept
	if err == nil {
		err = json.Unmarshal(text, &k)
	}
	if err != nil {
		return ha.Grant{Epoch: math.MaxInt64, Until: lease.Now() + n.Agent.Timers.Lease, For: n.Agent.Timers.Lease}, err
	}
	g := ha.Grant{Epoch: k.Epoch, Until: k.Until, For: k.For}
	if boot, err := lease.BootID(); err != nil || boot != k.Boot {
		g = g.Rebooted()
	}
	return g, nil
}
