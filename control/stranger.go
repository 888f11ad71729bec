package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"time"

	"howdah/netport"
	"howdah/problem"
)

// stranger says, of a store that did not answer us, that somebody else answers
// at its addresses: two playgrounds have the same ones. nil: nobody does.
func (c *Cluster) stranger(ctx context.Context, verb string) error {
	if c.peers == nil || len(c.Nodes) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	dial := c.peers.Dial(&net.Dialer{})
	for _, m := range c.Nodes[0].Etcd.Members {
		u, err := url.Parse(c.door.url(m.Client))
		if err != nil {
			continue
		}
		conn, err := dial(ctx, "tcp", u.Host)
		if err == nil {
			conn.Close()
			return nil
		}
		if _, other := errors.AsType[*tls.CertificateVerificationError](err); !other {
			continue
		}
		p := &problem.Error{
			Code: "store-foreign", What: fmt.Sprintf("cannot %s cluster %s", verb, c.Name),
			Why: "at " + u.Host + " another cluster answers: its certificate is not of this cluster's authority",
			Do:  "stop the other one (`howdah down --dir DIR`), or say with --dir that you mean it",
		}
		if at, err := netip.ParseAddrPort(u.Host); err == nil {
			if holder, ok := netport.Holder(at.Addr().String(), int(at.Port())); ok {
				p.Why = "at " + u.Host + " another cluster answers, behind " + holder + ": its certificate is not of this cluster's authority"
			}
		}
		return p
	}
	return nil
}
