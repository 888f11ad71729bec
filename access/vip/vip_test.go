package vip

import (
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const noon = 12 * time.Hour

var rival = MAC{2, 0, 0, 0, 0, 9}

func TestDecide(t *testing.T) {
	// A leader that has the address, has announced it long ago and prolonged it just now.
	steady := Facts{
		Now: noon, Right: Right{Open: true, Epoch: 7, Until: noon + 4*time.Second}, Link: true, On: true,
		Memory: Memory{Held: noon - time.Hour, Lent: noon - 100*time.Millisecond, Said: len(burst), SaidAt: noon - time.Second},
	}
	fresh := func(f *Facts) { f.On, f.Memory = false, Memory{} }
	for _, tt := range []struct {
		name string
		with func(*Facts) // how this case differs from the base
		want string
		code string
		wake time.Duration
	}{
		{"steady", nil, "right=live address=on -> nothing", "", 900 * time.Millisecond},
		{"prolonged each second", func(f *Facts) { f.Memory.Lent = noon - prolong }, "right=live address=on -> lend", "", time.Second},
		{"announced now and then", func(f *Facts) { f.Memory.SaidAt = noon - slowly }, "right=live address=on -> announce", "", 900 * time.Millisecond},
		{"the first announcements follow each other", func(f *Facts) { f.Memory.Said, f.Memory.SaidAt = 1, noon-50*time.Millisecond }, "right=live address=on -> announce", "", 200 * time.Millisecond},
		{"no later than the right ends", func(f *Facts) { f.Right.Until = noon + 10*time.Millisecond }, "right=live address=on -> nothing", "", 10 * time.Millisecond},
		{"the deadline", func(f *Facts) { f.Right.Until = noon }, "right=over address=on -> drop", "", backstop},
		{"the page is closed", func(f *Facts) { f.Right = Right{} }, "right=none address=on -> drop", "", backstop},
		{"the end", func(f *Facts) { f.Stopping = true }, "stopping address=on -> drop", "", backstop},
		{"the end, without it", func(f *Facts) { fresh(f); f.Stopping = true }, "stopping -> nothing", "", backstop},
		{"a replica", func(f *Facts) { fresh(f); f.Right = Right{} }, "right=none -> nothing", "", backstop},
		{"a crashed predecessor's, and no right", func(f *Facts) { f.Right, f.Memory = Right{}, Memory{} }, "right=none address=on -> drop", "", backstop},
		{"a crashed predecessor's, by right", func(f *Facts) { f.Memory = Memory{} }, "right=live address=on -> lend, announce", "", burst[1]},
		{"a right begins", fresh, "right=live -> probe", "", patience},
		{"while the answer is awaited", func(f *Facts) {
			fresh(f)
			f.Memory = Memory{Probes: 1, Began: noon - patience/2, Probed: noon - patience/2, Wanted: noon - patience/2}
		}, "right=live probed -> nothing", "", patience / 2},
		{"asked again", func(f *Facts) {
			fresh(f)
			f.Memory = Memory{Probes: 2, Began: noon - 2*patience, Probed: noon - patience, Wanted: noon - time.Second}
		}, "right=live -> probe", "", patience},
		{"nobody answers", func(f *Facts) {
			fresh(f)
			f.Memory = Memory{Probes: probes, Began: noon - probes*patience, Probed: noon - patience, Wanted: noon - time.Second}
		}, "right=live free -> lend, announce", "", burst[1]},
		{"the predecessor answers", func(f *Facts) {
			fresh(f)
			f.Memory = Memory{Probes: probes, Began: noon - probes*patience, Probed: noon - patience, Wanted: noon - 30*time.Millisecond}
			f.Rival, f.RivalAt = rival, noon-retry/2
		}, "right=live rival=02:00:00:00:00:09 -> nothing", "", retry / 2},
		{"it is asked once more", func(f *Facts) {
			fresh(f)
			f.Memory = Memory{Probes: probes, Began: noon - probes*patience, Probed: noon - patience, Wanted: noon - 30*time.Millisecond}
			f.Rival, f.RivalAt = rival, noon-retry
		}, "right=live rival=02:00:00:00:00:09 -> probe", "", patience},
		{"somebody else has it for good", func(f *Facts) {
			fresh(f)
			f.Memory = Memory{Probes: 1, Began: noon - 20*time.Millisecond, Probed: noon - 20*time.Millisecond, Wanted: noon - time.Minute}
			f.Rival, f.RivalAt = rival, noon-10*time.Millisecond
		}, "right=live rival=02:00:00:00:00:09 -> nothing", "vip-taken", retryLater - 10*time.Millisecond},
		{"what was heard before the question is no answer", func(f *Facts) {
			fresh(f)
			f.Memory = Memory{Probes: probes, Began: noon - probes*patience, Probed: noon - patience, Wanted: noon - time.Second}
			f.Rival, f.RivalAt = rival, noon-time.Second
		}, "right=live free -> lend, announce", "", burst[1]},
		{"another claims what we have", func(f *Facts) { f.Rival, f.RivalAt = rival, noon-time.Millisecond }, "right=live address=on rival=02:00:00:00:00:09 -> announce", "vip-disputed", 900 * time.Millisecond},
		{"and does not give in", func(f *Facts) {
			f.Rival, f.RivalAt = rival, noon-time.Millisecond
			f.Memory.Answered, f.Memory.Disputed = noon-answer/2, noon-answer/2
		}, "right=live address=on rival=02:00:00:00:00:09 -> nothing", "vip-disputed", 900 * time.Millisecond},
		{"the predecessor's last word", func(f *Facts) { f.Rival, f.RivalAt = rival, f.Memory.Held-time.Second }, "right=live address=on -> nothing", "", 900 * time.Millisecond},
		{"no interface", func(f *Facts) { fresh(f); f.Link = false }, "right=live link=none -> nothing", "", time.Second},
		{"it went away under us", func(f *Facts) { f.On = false }, "right=live -> probe", "", patience},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := steady
			if tt.with != nil {
				tt.with(&f)
			}
			d := Decide(f)
			if got := d.String(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if d.Problem.Code != tt.code {
				t.Errorf("problem %q, want %q", d.Problem.Code, tt.code)
			}
			if got := d.Wake - noon; got != tt.wake {
				t.Errorf("again in %s, want %s", got, tt.wake)
			}
		})
	}
}

// A whole story of one node: whatever the page, the link and others do, the
// kernel is never told to keep the address without a right, nor noticeably beyond
// it; nobody takes what another answers for; and it goes when the right does.
func TestTheAddressGoesWithTheRight(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		f := Facts{Now: noon, Link: true}
		var heard time.Duration // when the rival last answered
		rivalThere, kept := false, time.Duration(0)
		for step := range 400 {
			switch r.IntN(8) {
			case 0:
				f.Right = Right{Open: true, Epoch: f.Right.Epoch + 1, Until: f.Now + time.Duration(r.Int64N(int64(5*time.Second)))}
			case 1:
				f.Right = Right{}
			case 2:
				rivalThere = !rivalThere
			case 3:
				f.Link = r.IntN(4) > 0
			}
			f.Stopping = r.IntN(100) == 0
			if f.On && f.Now >= kept {
				f.On = false // the kernel takes it away
			}
			d := Decide(f)
			live := f.Right.Open && f.Now < f.Right.Until && !f.Stopping
			for _, a := range d.Acts {
				switch a.Do {
				case Probe:
					if rivalThere {
						heard = f.Now + time.Millisecond
					}
				case Lend:
					if !live {
						t.Fatalf("seed %d step %d: lent without a right: %+v", seed, step, f)
					}
					if left := f.Right.Until - f.Now; a.For > max(left, time.Second) {
						t.Fatalf("seed %d step %d: lent for %s with %s left", seed, step, a.For, left)
					}
					if !f.On && f.RivalAt >= f.Memory.Began && f.RivalAt > 0 {
						t.Fatalf("seed %d step %d: taken from one who answers: %+v", seed, step, f)
					}
					f.On, kept = true, f.Now+a.For
				case Drop:
					if live {
						t.Fatalf("seed %d step %d: dropped with a right: %+v", seed, step, f)
					}
					f.On = false
				}
			}
			if f.On && !live {
				t.Fatalf("seed %d step %d: on without a right: %s", seed, step, d)
			}
			if d.Wake > f.Right.Until && live {
				t.Fatalf("seed %d step %d: asleep at the deadline: %s", seed, step, d)
			}
			f.Memory = d.Memory
			if f.Now = max(f.Now+time.Millisecond, min(d.Wake, f.Now+time.Duration(r.Int64N(int64(time.Second))))); heard > 0 && heard <= f.Now {
				f.Rival, f.RivalAt, heard = rival, heard, 0
			}
		}
	}
}

var addresses = []netip.Addr{netip.MustParseAddr("10.10.10.2"), netip.MustParseAddr("fd00::10:2")}

func TestFrames(t *testing.T) {
	mac := MAC{2, 'h', 'o', 'w', 'd', 1}
	for _, a := range addresses {
		for _, frame := range Announcements(a, mac) {
			if got, ok := Claimant(frame, a); !ok || got != mac {
				t.Errorf("%s: an announcement says %v, %v", a, got, ok)
			}
			if got, ok := Claimant(frame, a.Next()); ok {
				t.Errorf("%s: an announcement claims the next address for %v", a, got)
			}
			for n := range frame {
				Claimant(frame[:n], a)
			}
		}
		if got, ok := Claimant(ProbeFrame(a, mac), a); ok {
			t.Errorf("%s: a question is a claim of %v", a, got)
		}
	}
	// Whole frames, byte by byte, as RFC 5227 and RFC 4861 draw them.
	for _, tt := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"probe", ProbeFrame(addresses[0], mac), "ffffffffffff 02686f776401 0806 0001080006040001 02686f776401 00000000 000000000000 0a0a0a02"},
		{"reply", Announcements(addresses[0], mac)[0], "ffffffffffff 02686f776401 0806 0001080006040002 02686f776401 0a0a0a02 ffffffffffff 0a0a0a02"},
		{"request", Announcements(addresses[0], mac)[1], "ffffffffffff 02686f776401 0806 0001080006040001 02686f776401 0a0a0a02 000000000000 0a0a0a02"},
	} {
		if got, want := hex.EncodeToString(tt.frame), strings.ReplaceAll(tt.want, " ", ""); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.name, got, want)
		}
	}
	for _, frame := range append(Announcements(addresses[1], mac), ProbeFrame(addresses[1], mac)) {
		// A receiver adds everything up, the checksum too, and gets all ones.
		sum := uint32(len(frame)-ndpHeader) + nextICMPv6
		for b := frame[22:]; len(b) > 0; b = b[2:] {
			sum += uint32(b[0])<<8 | uint32(b[1])
		}
		for sum > 0xffff {
			sum = sum>>16 + sum&0xffff
		}
		if sum != 0xffff {
			t.Errorf("the checksum of %x is wrong: %x", frame, sum)
		}
		if int(frame[18])<<8|int(frame[19]) != len(frame)-ndpHeader {
			t.Errorf("the length of %x is wrong", frame)
		}
	}
}

func FuzzClaimant(f *testing.F) {
	for _, a := range addresses {
		for _, frame := range append(Announcements(a, rival), ProbeFrame(a, rival)) {
			f.Add(frame)
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		for _, a := range addresses {
			if mac, ok := Claimant(frame, a); ok && !strings.Contains(string(frame), string(a.AsSlice())) {
				t.Errorf("%x claims %s for %v without naming it", frame, a, mac)
			}
		}
	})
}
