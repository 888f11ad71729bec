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

// A role is what somebody may do here.
type role int

const (
	nobody   role = iota
	viewer        // looks
	operator      // and changes
)

func (r role) String() string { return [...]string{"nobody", "viewer", "operator"}[r] }

// A guest came in by a password.
type guest struct {
	role  role
	until time.Time
}

// A door knows who came in by which password, until they leave, their time is over,
// or the process ends.
type door struct {
	Passwords [operator + 1]secret.Text // by role

	mu     sync.Mutex
	inside map[string]guest // by token
	wrong  int
	since  time.Time // when wrong was counted
}

func newDoor(viewers, operators secret.Text) *door {
	return &door{Passwords: [...]secret.Text{viewer: viewers, operator: operators}, inside: map[string]guest{}}
}

// role is whose password it is; both are compared, whichever it is.
func (d *door) role(password string) (is role) {
	for of, p := range d.Passwords {
		if same(password, p.Reveal()) && p != "" {
			is = role(of)
		}
	}
	return is
}

// enter checks the password and gives a cookie by which one is known.
func (d *door) enter(password string, now time.Time) (*http.Cookie, role, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if back := int(now.Sub(d.since) / refill); back > 0 {
		d.wrong, d.since = max(0, d.wrong-back), now
	}
	if d.wrong >= tries {
		return nil, nobody, errTooMany
	}
	as := d.role(password)
	if as == nobody {
		d.wrong++
		return nil, nobody, errWrong
	}
	for token, g := range d.inside {
		if !now.Before(g.until) {
			delete(d.inside, token)
		}
	}
	if len(d.inside) >= guests {
		oldest := ""
		for token, g := range d.inside {
			if oldest == "" || g.until.Before(d.inside[oldest].until) {
				oldest = token
			}
		}
		delete(d.inside, oldest)
	}
	token := rand.Text()
	d.inside[token] = guest{as, now.Add(stay)}
	return &http.Cookie{Name: cookieName, Value: token, Path: "/", MaxAge: int(stay / time.Second), HttpOnly: true, SameSite: http.SameSiteStrictMode}, as, nil
}

// who is whoever r comes from.
func (d *door) who(r *http.Request, now time.Time) role {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nobody
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.inside[cookie.Value] // 130 random bits: who guesses by timing has none of them
	if !now.Before(g.until) {
		return nobody
	}
	return g.role
}

// leave forgets who asks to leave.
func (d *door) leave(r *http.Request) {
	if cookie, err := r.Cookie(cookieName); err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.inside, cookie.Value)
	}
}
