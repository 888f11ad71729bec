package ha

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestVigil(t *testing.T) {
	const s = time.Second
	base := Vigil{Now: 100 * s, Page: Page{Primary: true, Epoch: 5, Deadline: 104 * s}, Armed: true, Timeout: 2 * s, Spare: s / 4}
	last := 102*s + s/4 - early
	for _, tt := range []struct {
		name string
		with func(*Vigil)
		want Care
		next time.Duration
	}{
		{"a live right", nil, Pet, last},
		{"… that was just given", func(v *Vigil) { v.Armed = false }, Arm, last},
		{"… at the last moment", func(v *Vigil) { v.Now = 102*s + s/4 }, Pet, 0},
		{"… which ends before the device would fire", func(v *Vigil) { v.Now = 102*s + s/4 + 1 }, Rest, 0},
		{"… too short to arm it", func(v *Vigil) { v.Now, v.Armed = 103*s, false }, Rest, 0},
		{"… of a server that does not run", func(v *Vigil) { v.Now, v.Safe = 103*s, true }, Pet, 0},
		{"the right is over", func(v *Vigil) { v.Now = 105 * s }, Rest, 0},
		{"… and every process is stopped", func(v *Vigil) { v.Now, v.Safe = 105*s, true }, Pet, 0},
		{"the page is gone under a server that may write", func(v *Vigil) { v.Page, v.Might = Page{}, true }, Rest, 0},
		{"… and that stands still", func(v *Vigil) { v.Page, v.Might, v.Safe = Page{}, true, true }, Pet, 0},
		{"a standby again", func(v *Vigil) { v.Page, v.Safe = Page{}, true }, Disarm, 0},
		{"a server that is nobody's concern", func(v *Vigil) { v.Page = Page{} }, Disarm, 0},
		{"a standby", func(v *Vigil) { v.Page, v.Safe, v.Armed = Page{}, true, false }, Rest, 0},
		{"maintenance", func(v *Vigil) { v.Page.Deadline = forever }, Disarm, 0},
		{"maintenance goes on", func(v *Vigil) { v.Page.Deadline, v.Armed = forever, false }, Rest, 0},
	} {
		v := base
		if tt.with != nil {
			tt.with(&v)
		}
		if care, next := v.Judge(); care != tt.want || next != tt.next {
			t.Errorf("%s: %s, again at %s; want %s, %s", tt.name, care, next, tt.want, tt.next)
		}
	}
}

// A device that counts never fires later than its spare time after the right of a
// server that could write by then.
func TestAVigilNeverOutlivesTheRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := func(most int, what string) time.Duration {
			return time.Duration(rapid.IntRange(0, most).Draw(t, what)) * time.Millisecond
		}
		v := Vigil{
			Now: time.Hour, Page: Page{Primary: rapid.Bool().Draw(t, "primary"), Deadline: time.Hour - 10*time.Second + ms(20000, "deadline")},
			Might: rapid.Bool().Draw(t, "might"), Armed: rapid.Bool().Draw(t, "armed"), Timeout: time.Second + ms(10000, "timeout"), Spare: ms(500, "spare"),
		}
		care, next := v.Judge()
		if (care == Pet || care == Arm) && (!v.Page.Primary || v.Now+v.Timeout > v.Page.Deadline+v.Spare) {
			t.Fatalf("%+v: %s", v, care)
		}
		if next != 0 && (next <= v.Now || next+v.Timeout > v.Page.Deadline+v.Spare) {
			t.Fatalf("%+v: again at %s", v, next)
		}
	})
}
