package ha

import (
	"testing"
	"time"
)

// A guard that looks twice a second at an agent: what it does in the story of each row.
func TestPulse(t *testing.T) {
	const still, look = 1750 * time.Millisecond, 450 * time.Millisecond
	type at = time.Duration
	for _, tt := range []struct {
		name string
		born at
		beat func(now at) uint64 // which it shows
		held func(now at) bool
		away func(now at) bool // the guard does not look
		want []at              // when it is ended, to a look
	}{
		{"it turns", 0, func(now at) uint64 { return uint64(now / look) }, nil, nil, nil},
		{"it hangs after 10 s", 0, func(now at) uint64 { return uint64(min(now, 10*time.Second) / look) }, nil, nil, []at{
			// Each successor hangs too, and has twice as long, up to 56 s.
			10*time.Second + still, 10*time.Second + 3*still, 10*time.Second + 7*still, 10*time.Second + 15*still, 10*time.Second + 31*still,
			10*time.Second + 63*still, 10*time.Second + 95*still, 10*time.Second + 127*still,
		}},
		{"it hangs while a disk holds it", 0, func(now at) uint64 { return uint64(min(now, 10*time.Second) / look) }, func(now at) bool { return now < 238*time.Second }, nil, []at{238 * time.Second}},
		{"it never turned", 0, func(at) uint64 { return 7 }, nil, nil, nil},
		{"a successor has not turned yet", 20 * time.Second, func(now at) uint64 { return uint64(min(now, 10*time.Second) / look) }, func(now at) bool { return now < 20*time.Second || now > 31*time.Second }, nil, []at{30 * time.Second}},
		{"the machine stands still for a minute", 0, func(now at) uint64 {
			if now > 60*time.Second {
				now = max(60*time.Second, now-60*time.Second)
			}
			return uint64(now / look)
		}, nil, func(now at) bool { return now > 60*time.Second && now < 120*time.Second }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p Pulse
			var ended []at
			for now := look; now < 4*time.Minute; now += look {
				if tt.away != nil && tt.away(now) {
					continue
				}
				p.Listen(now, tt.beat(now))
				if p.End(now, tt.born, still, tt.held != nil && tt.held(now)) {
					ended = append(ended, now)
				}
			}
			if len(ended) != len(tt.want) {
				t.Fatalf("ended at %v, want %v", ended, tt.want)
			}
			for i, e := range ended {
				if late := e - tt.want[i]; late < -look || late > time.Duration(i+2)*look {
					t.Errorf("ended at %v, want %v", ended, tt.want)
					break
				}
			}
		})
	}
}

// Who has turned for long is forgotten to have hung.
func TestAPulseForgets(t *testing.T) {
	p := Pulse{Beat: 1, Moved: true, Looked: time.Hour, Ended: time.Hour, Ends: 3, Since: time.Hour}
	p.Listen(time.Hour+EndedFor, 2)
	if p.Ends != 3 {
		t.Errorf("after %s it remembers %d ends, want 3", EndedFor, p.Ends)
	}
	p.Listen(time.Hour+EndedFor+1, 3)
	if p.Ends != 0 {
		t.Errorf("after more than %s it remembers %d ends", EndedFor, p.Ends)
	}
}
