package chaos

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5/pgconn"

	"howdah/test/outside"
)

const (
	clients = 3
	slot    = 4 * time.Second       // a list is appended to so long, then comes the next
	rhythm  = 30 * time.Millisecond // between two operations of a client
	patient = 2 * time.Second       // for one operation
	decide  = 2 * time.Minute       // for putting the history in an order
)

// lists are clients that append to lists and read them, through the service of
// the primary, and what each of them saw.
type lists struct {
	stop func()

	mu      sync.Mutex
	history []porcupine.Operation
}

// A wish is an operation: append a number to a list, or read it (0).
type wish struct {
	list   int64
	number int64
}

// A sight is what an operation saw: the list after it.
type sight struct {
	list    string // numbers and commas
	unknown bool   // the answer was lost: it may have been done, or may be yet
	door    string // of the gateway that it came through
}

// model is a list: what is read is what was appended, in order
// (Herlihy and Wing, Linearizability, 1990).
var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		by := map[int64][]porcupine.Operation{}
		for _, op := range history {
			list := op.Input.(wish).list
			by[list] = append(by[list], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range by {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		list, saw := state.(string), output.(sight)
		if n := input.(wish).number; n != 0 {
			list = strings.TrimPrefix(list+","+strconv.FormatInt(n, 10), ",")
		}
		return saw.unknown || saw.list == list, list
	},
}

// appendLists starts the clients; the table is there.
func appendLists(ctx context.Context, c *outside.Cluster) (*lists, error) {
	hosts, err := c.Entries(ctx, "primary")
	if err != nil {
		return nil, err
	}
	l := &lists{}
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	l.stop = func() { cancel(); done.Wait() }
	begin := time.Now()
	for id := range clients {
		done.Go(func() { l.client(ctx, id, hosts, begin) })
	}
	return l, nil
}

// client wishes until ctx ends. Each of its numbers is used once.
func (l *lists) client(ctx context.Context, id int, hosts []*pgconn.Config, begin time.Time) {
	draw := rand.New(rand.NewPCG(uint64(id), 1)) // of reads and appends: no part of the seed
	var conn *pgconn.PgConn
	door := ""
	for n := int64(1); ctx.Err() == nil; n++ {
		if conn == nil {
			host := hosts[int(n)%len(hosts)]
			conn, door = outside.Connect(ctx, host), host.Host
		}
		if conn != nil {
			w := wish{list: int64(time.Since(begin) / slot)}
			if draw.IntN(2) == 0 {
				w.number = n*clients + int64(id)
			}
			if !l.operate(ctx, conn, id, w, begin, door) {
				conn.Conn().Close()
				conn = nil
			}
		}
		if outside.Pause(ctx, rhythm) != nil {
			break
		}
	}
	if conn != nil {
		conn.Conn().Close()
	}
}

// A read is a commit here: only what standbys confirm is promised to be of the
// present. A primary that was cut off answers others until its lease ends (docs/guarantees.md).
const (
	reads   = "update lists set numbers = numbers where list = $1 returning array_to_string(numbers, ',')"
	appends = "insert into lists values ($1, array[$2::bigint]) on conflict (list) do update " +
		"set numbers = lists.numbers || excluded.numbers returning array_to_string(numbers, ',')"
)

// operate does one operation and keeps what is known of it; not ok if the
// connection is of no more use.
func (l *lists) operate(ctx context.Context, conn *pgconn.PgConn, id int, w wish, begin time.Time, door string) (ok bool) {
	ctx, cancel := context.WithTimeout(ctx, patient)
	defer cancel()
	op := porcupine.Operation{ClientId: id, Input: w, Call: time.Since(begin).Nanoseconds()}
	sql, args := reads, [][]byte{strconv.AppendInt(nil, w.list, 10)}
	if w.number != 0 {
		sql, args = appends, append(args, strconv.AppendInt(nil, w.number, 10))
	}
	answer := conn.ExecParams(ctx, sql, args, nil, nil, nil).Read()
	op.Return = time.Since(begin).Nanoseconds()
	switch {
	case answer.Err == nil && len(answer.Rows) == 0:
		return true // no list yet: nothing was written, so standbys confirmed nothing
	case answer.Err == nil:
		op.Output = sight{list: string(answer.Rows[0][0]), door: door}
	case w.number == 0 || certainlyNot(answer.Err):
		return !conn.IsClosed()
	default:
		op.Output, op.Return = sight{unknown: true, door: door}, 1<<62 // until the end of time
	}
	l.mu.Lock()
	l.history = append(l.history, op)
	l.mu.Unlock()
	return answer.Err == nil
}

// certainlyNot tells an error of the statement, which did nothing, from the end
// of a connection while the answer was under way (classes 08 and 57).
func certainlyNot(err error) bool {
	said, ok := errors.AsType[*pgconn.PgError](err)
	return ok && !strings.HasPrefix(said.Code, "08") && !strings.HasPrefix(said.Code, "57")
}

// Order says whether what clients saw can be put in one.
type Order string

// A history that is too long to decide is neither.
const (
	Kept      Order = "in order"
	Violated  Order = "not in order"
	Undecided Order = "not decided"
)

// bounded is a history that can be put in an order if and only if history can, and sooner
// decided: of an append whose answer was lost the lists that others saw say what became
// of it. One that nobody ever saw may have been done after everything else, so it is left out; one
// that was seen was done before the first who saw it had his answer.
func bounded(history []porcupine.Operation) []porcupine.Operation {
	seen := map[string]int64{} // when the first who saw a number had his answer
	for _, op := range history {
		if saw := op.Output.(sight); !saw.unknown {
			for number := range strings.SplitSeq(saw.list, ",") {
				if at, known := seen[number]; !known || op.Return < at {
					seen[number] = op.Return
				}
			}
		}
	}
	var all []porcupine.Operation
	for _, op := range history {
		if op.Output.(sight).unknown {
			at, known := seen[strconv.FormatInt(op.Input.(wish).number, 10)]
			if !known {
				continue
			}
			op.Return = max(at, op.Call)
		}
		all = append(all, op)
	}
	return all
}

// ordered judges the history once its clients have stopped.
func (l *lists) ordered(log func(string, ...any)) (operations int, o Order) {
	switch porcupine.CheckOperationsTimeout(model, bounded(l.history), decide) {
	case porcupine.Ok:
		o = Kept
	case porcupine.Illegal:
		o = Violated
		l.tell(log)
	default:
		o = Undecided
	}
	return len(l.history), o
}

// tell logs every list that can not be put in an order, an operation a line.
func (l *lists) tell(log func(string, ...any)) {
	for _, part := range model.Partition(bounded(l.history)) {
		if porcupine.CheckOperationsTimeout(model, part, decide) != porcupine.Illegal {
			continue
		}
		slices.SortFunc(part, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
		for _, op := range part {
			w, saw := op.Input.(wish), op.Output.(sight)
			what, end, list := "read", time.Duration(op.Return).Round(time.Millisecond).String(), saw.list
			if w.number != 0 {
				what = "append " + strconv.FormatInt(w.number, 10)
			}
			if saw.unknown {
				end, list = "?", "?"
			}
			log("list %d: client %d through %s, %s to %s: %s: %s", w.list, op.ClientId, saw.door, time.Duration(op.Call).Round(time.Millisecond), end, what, list)
		}
	}
}
