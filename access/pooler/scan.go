package pooler

// A scan is where a stream of messages stands: in the middle of a header, or of
// a body that is passed on, dropped, or held until enough of it is there to be
// understood. Most bodies are jumped over.
type scan struct {
	head [headSize]byte
	have uint8 // bytes of head
	act  act   // with the body that is going on
	kind byte  // of that message
	left int   // bytes of it to come
	hold []byte
}

type act uint8

const (
	pass act = iota
	drop
	hold
)

// join appends a piece to those that go out in one write; one that lies right
// behind the last in memory becomes part of it.
func join(pieces [][]byte, p []byte) [][]byte {
	if len(p) == 0 {
		return pieces
	}
	if n := len(pieces) - 1; n >= 0 {
		last := pieces[n]
		if cap(last) > len(last) && &last[:len(last)+1][len(last)] == &p[0] {
			pieces[n] = last[:len(last)+len(p)]
			return pieces
		}
	}
	return append(pieces, p)
}

// A request is something that a server owes an answer to.
type request struct {
	kind byte       // Q F S, or P B D E C of the extended protocol; c: where the data of a COPY ended
	act  answer     // what becomes of the answer
	stmt *statement // of a Parse, a Bind or a Close by name
	name string     // the client's for it

	portal bool // a Describe of one
}

type answer uint8

const (
	forward answer = iota // the client gets it
	skip                  // nobody: the pooler asked
	fake                  // there is none: the pooler gives it, when its turn comes
)

// A queue is what a server was asked and has not answered, in order.
type queue struct {
	all  []request
	head int
}

func (q *queue) empty() bool { return q.head == len(q.all) }

func (q *queue) push(r request) { q.all = append(q.all, r) }

// first is what is answered next.
func (q *queue) first() *request {
	if q.empty() {
		return nil
	}
	return &q.all[q.head]
}

func (q *queue) pop() request {
	r := q.all[q.head]
	q.all[q.head] = request{}
	q.head++
	if q.empty() {
		q.all, q.head = q.all[:0], 0
	} else if q.head > 256 && q.head > len(q.all)/2 { // a client that pipelines and pipelines
		n := copy(q.all, q.all[q.head:])
		clear(q.all[n:])
		q.all, q.head = q.all[:n], 0
	}
	return r
}

// extended says that kind is answered within a series that ends in Sync, and
// left out after an error in it.
func extended(kind byte) bool {
	switch kind {
	case 'P', 'B', 'D', 'E', 'C':
		return true
	}
	return false
}

// ends says that the answer to kind ends in ReadyForQuery.
func ends(kind byte) bool { return kind == 'Q' || kind == 'S' || kind == 'F' }
