package playground

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"

	"howdah/logkey"
	"howdah/node/process"
	"howdah/nodefile"
	"howdah/spec"
)

// A network carries out the faults that are laid on the nodes' wires. It is a
// part of the keeper: a healthy wire needs nobody, a wire that is cut one way
// or slow is carried by a line of ours.
type network struct {
	state State
	nodes []spec.Node
	marks *signalTower
	log   *slog.Logger

	wires map[string]wire
	lines map[string]func() // stops the line of a member
}

// A wire is how a node hangs on the bridge.
type wire struct {
	mute, deaf []string // peers by name: who hears nothing from it, whom it does not hear
	slow       Slow
}

func (w wire) equal(o wire) bool {
	return slices.Equal(w.mute, o.mute) && slices.Equal(w.deaf, o.deaf) && w.slow == o.slow
}

// wireOf says what an ill member's wire has to be.
func wireOf(i Ill) wire {
	if slices.Contains(i.Frozen, WholeNode) {
		return wire{mute: []string{All}, deaf: []string{All}}
	}
	return wire{mute: i.NotTo, deaf: i.NotFrom, slow: i.Slow}
}

// Run lays faults as they are written down, until ctx ends.
func (w *network) Run(ctx context.Context) error {
	w.wires, w.lines = map[string]wire{}, map[string]func(){}
	defer func() {
		for _, stop := range w.lines {
			stop()
		}
	}()
	last := int64(-1)
	for ctx.Err() == nil {
		f, err := w.state.recorded()
		if err == nil {
			err = w.lay(ctx, f)
		}
		last = f.Number
		said := laid{Number: last}
		if err != nil {
			said.Error = err.Error()
			w.log.Error("fault not laid", logkey.Error, err)
		}
		b, err := json.Marshal(said)
		if err != nil {
			return err
		}
		if err := nodefile.WriteFile(w.state.laidFile(), b, 0o644, -1, -1); err != nil {
			w.log.Error("fault not laid", logkey.Error, err)
		}
		w.marks.await(ctx, func() bool {
			f, err := w.state.recorded()
			return err == nil && f.Number != last
		})
	}
	return nil
}

func (w *network) lay(ctx context.Context, f Faults) error {
	var errs []error
	for _, n := range w.nodes {
		want := wireOf(f.Members[n.Member])
		if want.equal(w.wires[n.Member]) {
			continue
		}
		if stop := w.lines[n.Member]; stop != nil {
			stop()
			delete(w.lines, n.Member)
		}
		if err := w.hang(ctx, n, want); err != nil {
			errs = append(errs, fmt.Errorf("network of %s: %w", n.Member, err))
			continue
		}
		w.wires[n.Member] = want
		w.log.Info("network changed", logkey.Member, n.Member, "fault", f.Members[n.Member].String())
	}
	return errors.Join(errs...)
}

// hang hangs a node onto the bridge by its own port, by a line of ours, or not
// at all. What was sent meanwhile is lost, as on any wire.
func (w *network) hang(ctx context.Context, n spec.Node, want wire) error {
	i := w.state.seat(n)
	port := portOf(i)
	outer, inner := lineOf(i), "m"+strconv.Itoa(i+1) // on the bridge; ours
	whole := want.equal(wire{})
	cut := slices.Contains(want.mute, All) && slices.Contains(want.deaf, All)
	var ends [2]frames
	err := process.InNet(w.state.net(hub), func() error {
		p, err := netlink.LinkByName(port)
		if err != nil {
			return err
		}
		if old, err := netlink.LinkByName(outer); err == nil {
			if err := netlink.LinkDel(old); err != nil {
				return err
			}
		}
		br, err := netlink.LinkByName(bridge)
		if err != nil {
			return err
		}
		if whole {
			return netlink.LinkSetMaster(p, br)
		}
		if err := netlink.LinkSetNoMaster(p); err != nil || cut {
			return err
		}
		if err := netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: outer, MasterIndex: br.Attrs().Index}, PeerName: inner,
		}); err != nil {
			return err
		}
		if err := errors.Join(setLink(outer, true), setLink(inner, true)); err != nil {
			return err
		}
		q, err := netlink.LinkByName(inner)
		if err != nil {
			return err
		}
		for k, index := range []int{p.Attrs().Index, q.Attrs().Index} {
			if ends[k], err = tap(index); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || whole || cut {
		return err
	}
	mute, err := w.macs(want.mute)
	if err != nil {
		return err
	}
	deaf, err := w.macs(want.deaf)
	if err != nil {
		return err
	}
	w.lines[n.Member] = carryLine(ctx, ends[0], ends[1], want.slow,
		func(frame []byte) bool { return mute == nil || !known(mute, destination(frame)) },
		func(frame []byte) bool { return deaf == nil || !known(deaf, source(frame)) },
	)
	return nil
}

// lineOf is the place on the bridge of a node that hangs on a line of ours.
func lineOf(i int) string { return "l" + strconv.Itoa(i+1) }

// macs are the hardware addresses of peers; one that is nil is everybody's.
func (w *network) macs(peers []string) ([]net.HardwareAddr, error) {
	var macs []net.HardwareAddr
	for _, peer := range peers {
		if peer == All {
			return []net.HardwareAddr{nil}, nil
		}
		ns, name := w.state.net(peer), nodeLink
		if peer == Doors {
			ns, name = w.state.net(hub), bridge
		}
		err := process.InNet(ns, func() error {
			l, err := netlink.LinkByName(name)
			if err == nil {
				macs = append(macs, l.Attrs().HardwareAddr)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("network of %s: %w", peer, err)
		}
	}
	return macs, nil
}

func known(macs []net.HardwareAddr, mac net.HardwareAddr) bool {
	return slices.ContainsFunc(macs, func(m net.HardwareAddr) bool { return m == nil || bytes.Equal(m, mac) })
}

// quiet removes what a network of an earlier keeper said.
func (s State) quiet() { os.Remove(s.laidFile()) }
