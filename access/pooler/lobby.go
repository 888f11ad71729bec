package pooler

import (
	"container/list"
	"errors"
	"sync"
)

// errFull ends the greeting of who has to go for another.
var errFull = errors.New("too many clients are logging in")

// A lobby is where clients are until they have proven themselves. When it is full
// whoever has been there longest goes: a decent client needs milliseconds, and so
// thousands who connect and say nothing keep nobody out.
type lobby struct {
	mu     sync.Mutex
	guests list.List // of func(error), which send a guest away; the one who came first in front
}

// enter takes in a guest whom drop sends away. She leaves by what is returned;
// full says that another had to go.
func (l *lobby) enter(drop func(error)) (leave func(), full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if full = l.guests.Len() >= greetAtOnce; full {
		l.guests.Remove(l.guests.Front()).(func(error))(errFull)
	}
	e := l.guests.PushBack(drop)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.guests.Remove(e) // of no effect if she was sent away
	}, full
}

// empty says that nobody is on the way in.
func (l *lobby) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.guests.Len() == 0
}
