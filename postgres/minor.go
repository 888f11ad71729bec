package postgres

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"howdah/pg"
)

// versionName is the setting under which other programs of the same major show as
// something that waits for a restart. It sorts and reads like any other.
const versionName = "server_version"

// An imprint changes when a file is another one.
type imprint struct {
	dev, ino   uint64
	size, when int64
}

func imprintOf(path string) (imprint, bool) {
	st, err := os.Stat(path)
	if err != nil {
		return imprint{}, false
	}
	sys := st.Sys().(*syscall.Stat_t)
	return imprint{uint64(sys.Dev), sys.Ino, sys.Size, st.ModTime().UnixNano()}, true
}

// installed is the version of the programs that the server would start with now. They
// are asked when another file is there than was, which costs a process.
type installed struct {
	at      imprint
	version string
}

func (i *installed) look(bin string) string {
	now, ok := imprintOf(Programs{Bin: bin}.Path("postgres"))
	if !ok || now == i.at {
		return i.version // while a package is being replaced, what was
	}
	if p, err := at(bin); err == nil {
		i.at, i.version = now, p.Version
	}
	return i.version
}

// minor is what waits for a restart when a server of this server_version_num has other
// programs of its major beside it: PostgreSQL's way from one minor version to the next.
func minor(running int, there string) (pg.Pending, bool) {
	num, err := pg.VersionNum(there)
	if err != nil || running == 0 || num == running || num/10000 != running/10000 {
		return pg.Pending{}, false
	}
	return pg.Pending{Name: versionName, Old: strconv.Itoa(running/10000) + "." + strconv.Itoa(running%10000), New: there}, true
}

// withPending adds what waits, in the order of names.
func withPending(all []pg.Pending, p pg.Pending) []pg.Pending {
	all = append(slices.Clone(all), p)
	slices.SortStableFunc(all, func(a, b pg.Pending) int { return strings.Compare(a.Name, b.Name) })
	return all
}
