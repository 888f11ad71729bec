package cluster

import (
	"reflect"
	"testing"
	"time"
)

func TestParseRestore(t *testing.T) {
	whole := Restore{ID: "x", Member: "a", To: "noon", Timeline: 4, Phase: RestoreAsked, Made: "restore-x", Aside: "kept/before-x", By: "me", At: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	if got, err := ParseRestore([]byte(whole.Encode())); err != nil || !reflect.DeepEqual(got, whole) {
		t.Errorf("%+v, %v, want %+v", got, err, whole)
	}
	for name, bend := range map[string]func(*Restore){
		"no timeline":               func(r *Restore) { r.Timeline = 0 },
		"no phase":                  func(r *Restore) { r.Phase = "" },
		"data from elsewhere":       func(r *Restore) { r.Made = "/etc" },
		"data from above":           func(r *Restore) { r.Made = "kept/../../x" },
		"kept where nobody expects": func(r *Restore) { r.Aside = "../x" },
	} {
		r := whole
		bend(&r)
		if _, err := ParseRestore([]byte(r.Encode())); err == nil {
			t.Errorf("%s: no error", name)
		}
		s := Parse(9, map[string]KV{KeyRestore: {Key: KeyRestore, Value: []byte(r.Encode()), Mod: 9}})
		if s.Restore != nil || !s.Unknown(KeyRestore) {
			t.Errorf("%s: taken for %+v, and nobody is told", name, s.Restore)
		}
	}
}

// Nobody from before a restore leads once its leader has turned, and its number
// is nobody else's from the beginning.
func TestFloor(t *testing.T) {
	for phase, want := range map[string]int{RestoreMaking: 0, RestoreAsked: 0, RestoreTurned: 4, RestoreDone: 4} {
		s := State{Restore: &Restore{Timeline: 4, Phase: phase}}
		if got := s.Floor(); int(got) != want || s.Reserved() != 4 {
			t.Errorf("%s: the floor is %s, and %s is reserved; want %d and 4", phase, got, s.Reserved(), want)
		}
	}
	if s := (State{}); s.Floor() != 0 {
		t.Error("a floor without a restore")
	}
}
