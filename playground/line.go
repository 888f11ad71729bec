package playground

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A line carries frames between two links that are not otherwise joined, and
// does to them what a bad network does. It is our own because the kernel's way
// (netem) is a module that many kernels lack.

// Frames come and go with the header that says what the hardware, which is not
// there, would have to do to them: checksums to fill in, large segments to cut
// (packet(7), PACKET_VNET_HDR; struct virtio_net_hdr).
const (
	frameHeader = 10
	frameMax    = frameHeader + 14 + 4 + 64<<10
)

// How much waits at a slow place before more is dropped: as much as the rate
// carries in this time, and never less than a few large segments.
const (
	lineBuffer    = 500 * time.Millisecond
	lineBufferMin = 256 << 10
	lineFrames    = 4096
)

type frames struct{ *os.File }

// tap opens the frames of a link of the current namespace.
func tap(index int) (frames, error) {
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return frames{}, fmt.Errorf("packet socket: %w", err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}),
	)
	if err != nil {
		unix.Close(fd)
		return frames{}, fmt.Errorf("packet socket: %w", err)
	}
	return frames{os.NewFile(uintptr(fd), "line")}, nil
}

func destination(frame []byte) net.HardwareAddr {
	return net.HardwareAddr(frame[frameHeader : frameHeader+6])
}

func source(frame []byte) net.HardwareAddr {
	return net.HardwareAddr(frame[frameHeader+6 : frameHeader+12])
}

// carryLine carries between a node's port and the rest until stop is called.
// Whatever a filter refuses is lost.
func carryLine(ctx context.Context, node, rest frames, how Slow, out, in func(frame []byte) bool) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { oneWay(ctx, rest, node, how, out) })
	wg.Go(func() { oneWay(ctx, node, rest, how, in) })
	return func() {
		cancel()
		node.SetDeadline(time.Unix(1, 0))
		rest.SetDeadline(time.Unix(1, 0))
		wg.Wait()
		node.Close()
		rest.Close()
	}
}

type parcel struct {
	frame []byte
	due   time.Time
}

func oneWay(ctx context.Context, to, from frames, how Slow, pass func([]byte) bool) {
	queue := make(chan parcel, lineFrames)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(queue)
	wg.Go(func() {
		timer := time.NewTimer(0)
		defer timer.Stop()
		for p := range queue {
			if wait := time.Until(p.due); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-ctx.Done():
				}
			}
			if ctx.Err() == nil {
				_, _ = to.Write(p.frame) // a link that is down takes nothing
			}
		}
	})
	most := time.Duration(0) // the longest wait for a turn
	if how.Rate > 0 {
		most = max(lineBuffer, time.Duration(lineBufferMin*int64(time.Second)/how.Rate))
	}
	buffer := make([]byte, frameMax)
	free := time.Now() // when the slow place has sent all that it took
	for ctx.Err() == nil {
		k, err := from.Read(buffer)
		if err != nil {
			if errors.Is(err, unix.ENETDOWN) { // said once, when the link goes down
				continue
			}
			return
		}
		if k < frameHeader+14 || !pass(buffer[:k]) || how.Loss > 0 && rand.Float64() < how.Loss {
			continue
		}
		now := time.Now()
		if how.Rate > 0 {
			if free.Before(now) {
				free = now
			}
			if free.Sub(now) > most {
				continue
			}
			free = free.Add(time.Duration(int64(k-frameHeader) * int64(time.Second) / how.Rate))
			now = free
		}
		select {
		case queue <- parcel{append([]byte(nil), buffer[:k]...), now.Add(how.Delay)}:
		default: // full
		}
	}
}
