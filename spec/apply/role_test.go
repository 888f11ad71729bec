package apply

import (
	"strings"
	"testing"

	"howdah/secret"
	"howdah/spec"
)

func TestAPasswordIsSetOnce(t *testing.T) {
	r := &run{Order: Order{Secrets: map[string]secret.Text{"user:a": "pencil", "hash": "SCRAM-SHA-256$1:x$y:z", "odd": "pässword"}}}
	a := spec.Role{Name: "a", Secret: "user:a"}
	first, err := r.password(a, "")
	if err != nil || !strings.HasPrefix(first, "SCRAM-SHA-256$4096:") {
		t.Fatalf("got %q, %v", first, err)
	}
	for name, tt := range map[string]struct {
		role     spec.Role
		now      string
		md5, set bool
	}{
		"the same":             {a, first, false, false},
		"another":              {a, "SCRAM-SHA-256$4096:AAAA$x:y", false, true},
		"garbage":              {a, "SCRAM-SHA-256$-1:?$", false, true},
		"a hash that is there": {spec.Role{Name: "a", Secret: "hash"}, "SCRAM-SHA-256$1:x$y:z", false, false},
		"a hash that is not":   {spec.Role{Name: "a", Secret: "hash"}, first, false, true},
		"not ASCII":            {spec.Role{Name: "a", Secret: "odd"}, "", false, true},
		"md5 that is there":    {a, "md5" + "f5e85d2e3b1c1d8ff0b8d3d2c1c4a6f0", true, true},
	} {
		r.md5 = tt.md5
		if got, err := r.password(tt.role, tt.now); err != nil || (got != "") != tt.set {
			t.Errorf("%s: sets %q, %v; want it set: %v", name, got, err, tt.set)
		}
	}
	if _, err := r.password(spec.Role{Name: "a", Secret: "nowhere"}, ""); err == nil {
		t.Error("a missing secret is no error")
	}
}

// RFC 7677's example, as PostgreSQL would keep it.
func TestScram(t *testing.T) {
	salt := []byte{0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81}
	got, err := scram("pencil", salt, 4096)
	if err != nil || !strings.HasPrefix(got, "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=") {
		t.Errorf("got %q, %v", got, err)
	}
}
