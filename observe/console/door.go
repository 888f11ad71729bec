package console

import (
	"crypto/rand"
	"errors"
	"net/http"
	"sync"
	"time"

	"howdah/secret"
)

const (
	cookieName = "howdah_console"
	stay       = 12 * time.Hour   // after logging in
	guests     = 256              // at once; the oldest makes room
	tries      = 10               // wrong passwords at once …
	refill     = 10 * time.Second // … and one more after so long
)

var (
	errWrong   = errors.New("that is not the password")
	errTooMany = errors.New("too many wrong passwords; wait a little")
)

// A door knows who came in by the password, until they leave, their time is over,
// or the process ends.
type door struct {
	Password secret.Text

	mu     sync.Mutex
	inside map[string]time.Time // until when, by token
	wrong  int
	since  time.Time // when wrong was counted
}

func newDoor(password secret.Text) *door {
	return &door{Password: password, inside: map[string]time.Time{}}
}

// enter checks the password and gives a cookie by which one is known.
func (d *door) enter(password string, now time.Time) (*http.Cookie, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if back := int(now.Sub(d.since) / refill); back > 0 {
		d.wrong, d.since = max(0, d.wrong-back), now
	}
	if d.wrong >= tries {
		return nil, errTooMany
	}
	if d.Password == "" || !same(password, d.Password.Reveal()) {
		d.wrong++
		return nil, errWrong
	}
	for token, until := range d.inside {
		if !now.Before(until) {
			delete(d.inside, token)
		}
	}
	if len(d.inside) >= guests {
		oldest := ""
		for token, until := range d.inside {
			if oldest == "" || until.Before(d.inside[oldest]) {
				oldest = token
			}
		}
		delete(d.inside, oldest)
	}
	token := rand.Text()
	d.inside[token] = now.Add(stay)
	return &http.Cookie{Name: cookieName, Value: token, Path: "/", MaxAge: int(stay / time.Second), HttpOnly: true, SameSite: http.SameSiteStrictMode}, nil
}

// knows says whether r comes from somebody inside.
func (d *door) knows(r *http.Request, now time.Time) bool {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	until, ok := d.inside[cookie.Value] // 130 random bits: who guesses by timing has none of them
	return ok && now.Before(until)
}

// leave forgets who asks to leave.
func (d *door) leave(r *http.Request) {
	if cookie, err := r.Cookie(cookieName); err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.inside, cookie.Value)
	}
}
