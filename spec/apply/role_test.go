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
	if got, err := r.password(spec.Role{Name: "a", Secret: "odd"}, ""); err != nil || !strings.HasPrefix(got, "SCRAM-SHA-256$") {
		t.Errorf("a password that is not ASCII is sent as %q, %v", got, err)
	}
	if _, err := r.password(spec.Role{Name: "a", Secret: "nowhere"}, ""); err == nil {
		t.Error("a missing secret is no error")
	}
}
