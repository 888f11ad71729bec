package pool

// A list goes through records of a slice by their links: nothing is allocated
// for it, and any record leaves it at once.
type list struct{ head, tail, len int32 }

var empty = list{-1, -1, 0}

// links are a record's neighbours in the list that it is in; -1: none.
type links struct{ next, prev int32 }

var alone = links{-1, -1}

func (l *links) chained() *links { return l }

type record[T any] interface {
	*T
	chained() *links
}

// insert puts record i of all at the head.
func insert[T any, P record[T]](l *list, all []T, i int32) {
	r := P(&all[i]).chained()
	r.prev, r.next = -1, l.head
	if l.head >= 0 {
		P(&all[l.head]).chained().prev = i
	} else {
		l.tail = i
	}
	l.head = i
	l.len++
}

// add puts record i of all at the tail.
func add[T any, P record[T]](l *list, all []T, i int32) {
	r := P(&all[i]).chained()
	r.prev, r.next = l.tail, -1
	if l.tail >= 0 {
		P(&all[l.tail]).chained().next = i
	} else {
		l.head = i
	}
	l.tail = i
	l.len++
}

// follow puts record i of all behind record after; -1: at the head.
func follow[T any, P record[T]](l *list, all []T, i, after int32) {
	switch after {
	case -1:
		insert[T, P](l, all, i)
		return
	case l.tail:
		add[T, P](l, all, i)
		return
	}
	r, before := P(&all[i]).chained(), P(&all[after]).chained()
	r.prev, r.next = after, before.next
	P(&all[before.next]).chained().prev = i
	before.next = i
	l.len++
}

// take takes record i of all out.
func take[T any, P record[T]](l *list, all []T, i int32) {
	r := P(&all[i]).chained()
	if r.prev >= 0 {
		P(&all[r.prev]).chained().next = r.next
	} else {
		l.head = r.next
	}
	if r.next >= 0 {
		P(&all[r.next]).chained().prev = r.prev
	} else {
		l.tail = r.prev
	}
	*r = alone
	l.len--
}
