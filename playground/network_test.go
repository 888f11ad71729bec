package playground

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"howdah/node/process"
	"howdah/postgres"
	"howdah/problem"
	"howdah/spec"
)

// Frames go where no fault is laid, and nowhere else.
func TestNetworkFaults(t *testing.T) {
	s, nodes := up(t, options(t, Isolated))
	a, b, c := nodes[0], nodes[1], nodes[2]
	heard := map[string]net.PacketConn{}
	for _, n := range nodes {
		heard[n.Member] = hear(t, s, n)
	}
	// reaches asks whether a word of one node comes to another, more often where it should.
	words := 0
	reaches := func(from, to spec.Node, should bool) bool {
		tries := 2 // the first may be spent on finding the way
		if should {
			tries = 30
		}
		for range tries {
			words++
			word := from.Member + " " + strconv.Itoa(words)
			if tell(t, s, from, to, word) && hears(heard[to.Member], word) {
				return true
			}
		}
		return false
	}
	type way struct{ from, to spec.Node }
	everyWay := []way{{a, b}, {b, a}, {a, c}, {c, a}, {b, c}, {c, b}}
	expect := func(what, door string, lost ...way) {
		t.Helper()
		for _, w := range everyWay {
			want := true
			for _, l := range lost {
				if l.from.Member == w.from.Member && l.to.Member == w.to.Member {
					want = false
				}
			}
			if got := reaches(w.from, w.to, want); got != want {
				t.Errorf("%s: %s hears %s: %v, want %v", what, w.to.Member, w.from.Member, got, want)
			}
		}
		for _, n := range nodes {
			shut, patience := n.Member == door, 3*time.Second
			if shut {
				patience /= 10
			}
			if _, err := askWithin(n, patience); (err != nil) != shut {
				t.Errorf("%s: the door of %s: %v, want shut %v", what, n.Member, err, shut)
			}
		}
	}
	members := []string{a.Member}
	all := []string{All}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	expect("whole", "")
	for range 2 { // twice is once
		check(s.Cut(t.Context(), members, all, all))
		expect("cut off", a.Member, way{a, b}, way{b, a}, way{a, c}, way{c, a})
	}
	if f, err := s.Faults(); err != nil || f.Members[a.Member].String() != "cut off from all" {
		t.Errorf("faults are %+v, %v", f, err)
	}
	check(s.Heal(t.Context(), members))
	expect("healed", "")

	check(s.Cut(t.Context(), members, all, nil))
	expect("mute", a.Member, way{a, b}, way{a, c})
	check(s.Heal(t.Context(), members))
	check(s.Cut(t.Context(), members, nil, all))
	expect("deaf", a.Member, way{b, a}, way{c, a})
	check(s.Heal(t.Context(), members))

	check(s.Cut(t.Context(), members, []string{b.Member}, []string{b.Member}))
	expect("cut off from one", "", way{a, b}, way{b, a})
	check(s.Heal(t.Context(), members))
	check(s.Cut(t.Context(), members, []string{Doors}, []string{Doors}))
	expect("cut off from the doors", a.Member)
	check(s.Heal(t.Context(), members))

	if err := s.Cut(t.Context(), members, []string{a.Member}, nil); problem.Code(err) != "fault-peer" {
		t.Errorf("cut off from itself: %v, want fault-peer", err)
	}
	if err := s.Cut(t.Context(), members, []string{"nobody"}, nil); problem.Code(err) != "member-unknown" {
		t.Errorf("cut off from nobody: %v, want member-unknown", err)
	}

	const delay = 60 * time.Millisecond
	check(s.Slow(t.Context(), members, Slow{Delay: delay}))
	began := time.Now()
	if _, err := askWithin(a, 2*time.Second); err != nil {
		t.Errorf("a slow node does not answer: %v", err)
	}
	// A handshake and an answer are two trips there and back.
	if took := time.Since(began); took < 3*delay || took > 20*delay {
		t.Errorf("a node whose frames are %s late answers after %s", delay, took)
	}
	check(s.Slow(t.Context(), members, Slow{Rate: 500_000}))
	began = time.Now()
	if _, err := ask(a, strings.Repeat("x", 1<<20)); err != nil {
		t.Errorf("1 MB to a slow node: %v", err)
	}
	if took := time.Since(began); took < time.Second || took > 8*time.Second {
		t.Errorf("1 MB at 500 kB a second takes %s", took)
	}
	check(s.Slow(t.Context(), members, Slow{Loss: 1}))
	expect("all lost", a.Member, way{a, b}, way{b, a}, way{a, c}, way{c, a})

	// up takes every fault off, and so does a keeper that begins.
	check(s.Cut(t.Context(), []string{b.Member}, all, all))
	if _, _, err := Up(t.Context(), Options{Dir: s.Dir, Binary: s.Binary}, discard()); err != nil {
		t.Fatal(err)
	}
	expect("up again", "")
}

// A fault outlives the keeper that laid it, and the next one lays it again.
func TestFaultsOutliveTheKeeper(t *testing.T) {
	s, nodes := up(t, options(t, Isolated))
	a, b := nodes[0], nodes[1]
	all := []string{All}
	if err := errors.Join(s.Cut(t.Context(), []string{a.Member}, all, all), s.Cut(t.Context(), []string{b.Member}, all, nil)); err != nil {
		t.Fatal(err)
	}
	keeper, _ := s.keeper()
	if err := end(t.Context(), keeper); err != nil {
		t.Fatal(err)
	}
	if err := s.Cut(t.Context(), []string{a.Member}, all, all); problem.Code(err) != "keeper-missing" {
		t.Errorf("without a keeper: %v, want keeper-missing", err)
	}
	apart := func() {
		t.Helper()
		for _, way := range [][2]spec.Node{{a, b}, {b, a}} {
			if err := process.InNet(s.net(way[0].Member), func() error { return dialIn(way[1].Address, way[1].Postgres.Port) }); err == nil {
				t.Errorf("%s reaches %s", way[0].Member, way[1].Member)
			}
		}
	}
	apart()
	if err := s.startKeeper(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the faults are laid again", func() bool { _, err := os.Stat(s.laidFile()); return err == nil })
	apart()
}

func TestFreezeAndThaw(t *testing.T) {
	grounds(t, func(t *testing.T, o Options) {
		s, nodes := up(t, o)
		n := nodes[0]
		members := []string{n.Member}
		says := func(want string) {
			t.Helper()
			f, err := s.Faults()
			if err != nil || f.Members[n.Member].String() != want {
				t.Errorf("it ails from %q, %v; want %q", f.Members[n.Member], err, want)
			}
		}
		answers := func(want bool) {
			t.Helper()
			if _, err := askWithin(n, 300*time.Millisecond); (err == nil) != want {
				t.Errorf("it answers: %v, want %v", err, want)
			}
		}
		if err := s.Thaw(t.Context(), members, ""); err != nil {
			t.Errorf("thaw of what is not frozen: %v", err)
		}
		for range 2 {
			if err := s.Freeze(t.Context(), members, "agent"); err != nil {
				t.Fatal(err)
			}
			says("agent frozen")
		}
		if err := s.Freeze(t.Context(), members, "cook"); problem.Code(err) != "fault-role" {
			t.Errorf("got %v, want fault-role", err)
		}
		if err := s.Freeze(t.Context(), members, WholeNode); err != nil {
			t.Fatal(err)
		}
		says("frozen")
		answers(false)
		for _, id := range everything(n) {
			if runs(id) {
				t.Errorf("%v runs", id.Args())
			}
		}
		if err := s.Thaw(t.Context(), members, "agent"); problem.Code(err) != "fault-frozen" {
			t.Errorf("thaw of the agent alone: %v, want fault-frozen", err)
		}
		if err := s.Thaw(t.Context(), members, ""); err != nil {
			t.Fatal(err)
		}
		says("")
		answers(true)

		// What somebody else froze is not ours to thaw.
		if err := postgres.Freeze(n.Postgres.Data); err != nil {
			t.Fatal(err)
		}
		if err := s.Freeze(t.Context(), members, "postgres"); problem.Code(err) != "fault-held" {
			t.Errorf("got %v, want fault-held", err)
		}
		if err := s.Freeze(t.Context(), members, WholeNode); err != nil {
			t.Fatal(err)
		}
		if err := s.Thaw(t.Context(), members, ""); err != nil {
			t.Fatal(err)
		}
		await(t, "the node goes on", func() bool { id, _ := supervisor(n); return runs(id) })
		if !postgres.Frozen(n.Postgres.Data) {
			t.Error("the thaw of a node thawed what its guard had frozen")
		}
		if err := postgres.Thaw(n.Postgres.Data); err != nil {
			t.Fatal(err)
		}

		// Killed and started again it is not frozen; stopped it has to go on first.
		if err := s.Freeze(t.Context(), members, WholeNode); err != nil {
			t.Fatal(err)
		}
		if err := s.KillNode(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		says("")
		if err := s.StartNode(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		await(t, "it answers again", func() bool { _, err := ask(n, "x"); return err == nil })
		if err := s.Freeze(t.Context(), members, WholeNode); err != nil {
			t.Fatal(err)
		}
		if err := s.StopNode(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		if left := everything(n); len(left) > 0 {
			t.Errorf("stop-node left %v", left)
		}
	})
}

func askWithin(n spec.Node, patience time.Duration) (string, error) {
	c, err := net.DialTimeout("tcp4", net.JoinHostPort(Door(n), strconv.Itoa(n.Postgres.Port)), patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "x"); err != nil {
		return "", err
	}
	c.(*net.TCPConn).CloseWrite()
	return bufio.NewReader(c).ReadString('\n')
}

const wordPort = 7777

func hear(t *testing.T, s State, n spec.Node) (c net.PacketConn) {
	t.Helper()
	err := process.InNet(s.net(n.Member), func() (err error) {
		c, err = net.ListenPacket("udp4", net.JoinHostPort(n.Address, strconv.Itoa(wordPort)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func tell(t *testing.T, s State, from, to spec.Node, word string) bool {
	t.Helper()
	err := process.InNet(s.net(from.Member), func() error {
		c, err := net.Dial("udp4", net.JoinHostPort(to.Address, strconv.Itoa(wordPort)))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte(word))
		return err
	})
	return err == nil
}

// hears says whether the word comes soon. One that was given up may still come, and is no answer.
func hears(c net.PacketConn, word string) bool {
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	for b := make([]byte, 100); ; {
		n, _, err := c.ReadFrom(b)
		if err != nil || string(b[:n]) == word {
			return err == nil
		}
	}
}
