package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestNothingPrintsIt(t *testing.T) {
	const password = "hunter2"
	s := Text(password)
	type User struct {
		Name     string
		Password Text
	}
	u := User{"ann", s}

	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%c", "%10s", "%T"} {
		for _, v := range []any{s, &s, u, &u, []Text{s}, map[string]Text{"a": s}, map[Text]int{s: 1}, fmt.Errorf("connect: %w, %v", bytes.ErrTooLarge, s)} {
			got := fmt.Sprintf(verb, v)
			if strings.Contains(got, password) || strings.Contains(strings.ToLower(got), fmt.Sprintf("%x", password)) {
				t.Errorf("%s of %T prints %s", verb, v, got)
			}
		}
	}

	var b bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
		slog.New(h).Info("user", "user", u, "password", s, "all", []Text{s})
	}
	if err := json.NewEncoder(&b).Encode(map[string]any{"user": u, "password": s}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), password) {
		t.Errorf("logged: %s", b.String())
	}
	if got := s.Reveal(); got != password {
		t.Errorf("revealed %q", got)
	}
}

// A file of secrets reads as it stands.
func TestRead(t *testing.T) {
	var all map[string]Text
	if err := json.Unmarshal([]byte(`{"postgres":"hunter2"}`), &all); err != nil || all["postgres"].Reveal() != "hunter2" {
		t.Errorf("read %q, %v", all["postgres"].Reveal(), err)
	}
}
