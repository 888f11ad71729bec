package control

import (
	"context"
	"crypto/tls"
	"net/url"
	"sync"
	"time"

	"howdah/cluster"
)

// certificateWithin is what a member may take to show its certificate.
const certificateWithin = 2 * time.Second

// Certificates asks every member that shows itself for the certificate by which
// the others know it, and returns when each ends. Who does not answer, or is a
// member that shows none, is left out.
func (c *Cluster) Certificates(ctx context.Context, s cluster.State) map[string]time.Time {
	if c.peers == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, certificateWithin)
	defer cancel()
	until := map[string]time.Time{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, m := range s.Members {
		at, err := url.Parse(c.door.url(m.APIURL))
		if err != nil || at.Host == "" {
			continue
		}
		wg.Go(func() {
			end, ok := c.certificate(ctx, at.Host)
			if !ok {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			until[m.Name] = end
		})
	}
	wg.Wait()
	return until
}

// certificate is when the one ends that is shown at addr. One that has ended is
// shown all the same: nobody is trusted here, something is only looked at.
func (c *Cluster) certificate(ctx context.Context, addr string) (end time.Time, ok bool) {
	config := c.peers.To("")
	config.InsecureSkipVerify = true
	d := tls.Dialer{Config: config}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return end, false
	}
	defer conn.Close()
	shown := conn.(*tls.Conn).ConnectionState().PeerCertificates
	if len(shown) == 0 {
		return end, false
	}
	return shown[0].NotAfter, true
}
