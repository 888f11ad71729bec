package pool

import "sync"

// A Ledger counts what several books have between them: clients, or servers. They are the pools of
// several loops, and whatever limit holds for all of them together is looked at and used up in one
// step. It is asked when somebody comes or goes, never for a query.
type Ledger struct {
	mu         sync.Mutex
	all        int
	dbs, users map[string]int
	places     map[string]int
	books      int
}

// NewLedger is one without entries.
func NewLedger() *Ledger {
	return &Ledger{dbs: map[string]int{}, users: map[string]int{}, places: map[string]int{}}
}

// limits are what a ledger may have at most: of all, of a database, of a user. 0: there is none.
type limits struct{ all, db, user int }

// A full is which of them is reached.
type full uint8

const (
	nothing full = iota
	allFull
	dbFull
	userFull
)

// takes counts one more of k, or says which limit is in the way.
func (l *Ledger) takes(k Key, most limits) full {
	l.mu.Lock()
	defer l.mu.Unlock()
	is := l.reached(k, most)
	if is == nothing {
		l.all++
		l.dbs[k.Database]++
		l.users[k.User]++
		l.places[k.Place]++
	}
	return is
}

// full says which limit is in the way of one more of k.
func (l *Ledger) full(k Key, most limits) full {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reached(k, most)
}

func (l *Ledger) reached(k Key, most limits) full {
	switch {
	case over(l.all, most.all):
		return allFull
	case over(l.dbs[k.Database], most.db):
		return dbFull
	case over(l.users[k.User], most.user):
		return userFull
	}
	return nothing
}

// gives counts one less of k.
func (l *Ledger) gives(k Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	less(l.dbs, k.Database)
	less(l.users, k.User)
	less(l.places, k.Place)
}

func less(of map[string]int, name string) {
	if of[name]--; of[name] == 0 {
		delete(of, name)
	}
}

// moves counts one at another place.
func (l *Ledger) moves(from, to string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	less(l.places, from)
	l.places[to]++
}

func (l *Ledger) at(place string) int     { return l.read(l.places, place) }
func (l *Ledger) ofDatabase(n string) int { return l.read(l.dbs, n) }
func (l *Ledger) ofUser(n string) int     { return l.read(l.users, n) }

func (l *Ledger) read(of map[string]int, name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return of[name]
}

// joins has another book count here.
func (l *Ledger) joins() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.books++
}

// shared says that there are several books.
func (l *Ledger) shared() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.books > 1
}
