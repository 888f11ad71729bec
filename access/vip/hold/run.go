package hold

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"howdah/access/vip"
	"howdah/lease"
	"howdah/logkey"
	"howdah/nodefile"
	"howdah/problem"
	"howdah/spec"
)

// A holder is the role while it runs.
type holder struct {
	node    spec.Node
	address netip.Addr
	page    *lease.Reader
	log     *slog.Logger

	tap     *tap
	tapMAC  vip.MAC
	rival   vip.MAC
	rivalAt time.Duration
	claims  chan vip.MAC

	memory   vip.Memory
	said     string // the last decision that was logged
	reported nodefile.VIP
	hearing  sync.WaitGroup
}

// Run holds the address of n whenever the lease page gives the right to, until
// ctx ends; then the address is off.
func Run(ctx context.Context, n spec.Node, log *slog.Logger) error {
	p, err := netip.ParsePrefix(n.VIP.Address)
	if err != nil {
		return fmt.Errorf("virtual address of %s: %w", n.Member, err)
	}
	h := &holder{node: n, address: p.Addr(), page: lease.NewReader(n.Paths.Page), log: log, claims: make(chan vip.MAC, 16)}
	defer h.page.Close()
	defer h.hearing.Wait()
	defer func() { h.tap.close() }()

	changes := make(chan struct{}, 1)
	watch, err := lease.NewWatch(n.Paths.Page)
	if err != nil {
		return err
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	defer watch.Close()
	watching.Go(func() {
		for watch.Next() == nil {
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	})

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		stopping := ctx.Err() != nil
		f, looked := h.look(stopping)
		d := vip.Decide(f)
		acted := h.perform(d)
		h.memory = d.Memory
		if acted != nil {
			h.memory = vip.Memory{Wanted: d.Memory.Wanted} // it begins anew
			d.Wake = f.Now + time.Second
		}
		h.say(d, f, errors.Join(looked, acted))
		if stopping {
			return acted
		}
		timer.Reset(d.Wake - lease.Now())
		select {
		case <-changes:
		case <-timer.C:
		case mac := <-h.claims:
			h.rival, h.rivalAt = mac, lease.Now()
		case <-ctx.Done():
		}
	}
}

// look gathers the facts. The interface is looked for anew each time: it may
// come after us, and go.
func (h *holder) look(stopping bool) (vip.Facts, error) {
	f := vip.Facts{Rival: h.rival, RivalAt: h.rivalAt, Stopping: stopping, Memory: h.memory}
	addrs, err := held(nil, h.node.VIP)
	f.On = len(addrs) > 0
	i, missing := find(h.node)
	if missing == nil {
		f.Link = i.up
		missing = h.listen(i)
		f.Link = f.Link && missing == nil
	}
	// The right last, and the clock after it: it must not look younger than it is.
	if p, ok := h.page.Read(); ok && p.Role == lease.Primary {
		f.Right = vip.Right{Open: true, Epoch: p.Epoch, Until: p.Deadline}
	}
	f.Now = lease.Now()
	return f, errors.Join(err, missing)
}

// listen opens the tap on i, unless it is open there.
func (h *holder) listen(i iface) error {
	if h.tap != nil && h.tap.index == i.link.Attrs().Index && h.tapMAC == i.mac {
		return nil
	}
	h.tap.close()
	h.hearing.Wait()
	h.tap = nil
	t, err := openTap(i, h.address)
	if err != nil {
		return h.unable(err)
	}
	h.tap, h.tapMAC = t, i.mac
	h.hearing.Go(func() {
		t.hear(h.address, func(mac vip.MAC) {
			select {
			case h.claims <- mac:
			default: // whoever is shouting is known
			}
		})
	})
	return nil
}

// unable explains what only a privilege gives.
func (h *holder) unable(err error) error {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		return err
	}
	return &problem.Error{
		Code: "vip-privilege", What: "cannot take the virtual address " + h.node.VIP.Address + " on " + h.node.Member,
		Why: "this process lacks CAP_NET_ADMIN and CAP_NET_RAW",
		Do:  "have the node's supervisor run as root, which gives its address role these two and nothing else; or set pg_vip_enabled: false", Err: err,
	}
}

// perform does what was decided. The first act that fails ends it.
func (h *holder) perform(d vip.Decision) error {
	for _, a := range d.Acts {
		var err error
		switch a.Do {
		case vip.Probe:
			err = h.tap.send(vip.ProbeFrame(h.address, h.tapMAC))
		case vip.Announce:
			err = h.tap.send(vip.Announcements(h.address, h.tapMAC)...)
		case vip.Drop:
			err = Clear(h.node.VIP)
		case vip.Lend:
			err = h.lend(a.For)
		}
		if err != nil {
			return h.unable(fmt.Errorf("%s: %w", a, err))
		}
	}
	return nil
}

// lend has the kernel keep the address, and looks once more whether that was
// right: this process may have been stopped between the look and the act.
func (h *holder) lend(d time.Duration) error {
	i, err := find(h.node)
	if err != nil {
		return err
	}
	if err := lend(i.link, h.node.VIP, d); err != nil {
		return err
	}
	if p, ok := h.page.Read(); !ok || !p.Open(lease.Now()) {
		return Clear(h.node.VIP)
	}
	return nil
}

// say logs a decision and leaves a report when they change.
func (h *holder) say(d vip.Decision, f vip.Facts, err error) {
	r := nodefile.VIP{
		Address: h.node.VIP.Address, Held: d.Memory.Held > 0 && err == nil,
		Trail: strings.Join(d.Trail, " "), Problem: d.Problem,
	}
	if err != nil {
		if r.Problem = problem.Plain(err); r.Problem.Code == "" {
			r.Problem = problem.Error{
				Code: "vip-not-set", What: "cannot take the virtual address " + r.Address + " on " + h.node.Member, Why: err.Error(),
				Do: "look at the interface with `ip addr` and at the node's log; it is tried again every second",
			}
		}
	}
	text := fmt.Sprint(d.String(), r.Problem.Code, r.Held)
	if text != h.said && (len(d.Acts) > 0 || r.Held != h.reported.Held || r.Problem != h.reported.Problem) {
		h.said = text
		level := slog.LevelDebug
		switch {
		case r.Problem.Code != "" && r.Problem != h.reported.Problem:
			level = slog.LevelWarn
		case r.Held != h.reported.Held:
			level = slog.LevelInfo
		}
		h.log.Log(context.Background(), level, "virtual address", "address", r.Address, "held", r.Held,
			logkey.Trail, d.Trail, logkey.Action, d.String(), logkey.Epoch, f.Right.Epoch, logkey.Took, lease.Now()-f.Now, logkey.Error, r.Problem.Why)
	}
	if r == h.reported {
		return
	}
	h.reported = r
	if err := nodefile.WriteVIP(h.node, r); err != nil {
		h.log.Warn("report not written", logkey.Error, err)
	}
}
