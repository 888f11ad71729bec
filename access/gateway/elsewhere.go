package gateway

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"sync"
	"time"

	"howdah/logkey"
	"howdah/pgwire"
	"howdah/pki"
)

// tagOf is how the keys that a node's gateway gives to its clients name it, in the
// two bytes where PgBouncer has the number of a peer. Two nodes of one tag only
// cost each other a question.
func tagOf(member string) uint16 {
	h := fnv.New32a()
	_, _ = io.WriteString(h, member)
	n := h.Sum32()
	return max(uint16(n>>16^n), 1)
}

// passAtOnce bounds the cancel requests that are on their way to another node:
// who invents keys gets no more.
const passAtOnce = 32

// elsewhere passes a cancel request on to the gateway whose client has its key: at
// the same port of that node, over TLS between nodes, so that the key stays a
// secret and nobody else is told of it. Whoever gets it there passes it on no more.
func (f *front) elsewhere(port string, peers *pki.Peers) func(context.Context, [8]byte) {
	free := make(chan struct{}, passAtOnce)
	return func(ctx context.Context, key [8]byte) {
		ctx, stop := context.WithTimeout(ctx, cancelWithin)
		defer stop()
		var wg sync.WaitGroup
		defer wg.Wait()
		for member, host := range f.tagged(binary.LittleEndian.Uint16(key[2:])) {
			select {
			case free <- struct{}{}:
			default:
				return
			}
			wg.Go(func() {
				defer func() { <-free }()
				if err := pass(ctx, net.JoinHostPort(host, port), peers.To(host), key); err != nil {
					f.log.Warn("cancel request not passed on", logkey.Member, member, logkey.Error, err)
				}
			})
		}
	}
}

// tagged are the other members of that tag, and where they are.
func (f *front) tagged(tag uint16) map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string]string{}
	for _, m := range f.view.Picture.Members {
		if m.Name != f.gateway.node.Member && m.Host != "" && tagOf(m.Name) == tag {
			all[m.Name] = m.Host
		}
	}
	return all
}

var errClear = errors.New("it takes nothing over TLS")

// pass hands key to the gateway at addr, and waits until that has dealt with it.
func pass(ctx context.Context, addr string, config *tls.Config, key [8]byte) error {
	d := net.Dialer{Timeout: dialWithin}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	raw := conn
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })()
	if config != nil {
		if _, err := conn.Write(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, pgwire.SSLRequest)); err != nil {
			return err
		}
		var answer [1]byte
		if _, err := io.ReadFull(conn, answer[:]); err != nil {
			return err
		}
		if answer[0] != 'S' {
			return errClear
		}
		encrypted := tls.Client(conn, config)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("TLS: %w", err)
		}
		conn = encrypted
	}
	b := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 16}, pgwire.CancelRequest)
	if _, err := conn.Write(append(b, key[:]...)); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn) // it says nothing, and closes when it is done
	return err
}
