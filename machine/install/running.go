package install

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Seat is one node of a machine, as Look is told of it.
type Seat struct {
	Member string
	Run    string // its run directory
	Data   string // of its server; "": it has none
}

// A Running is what runs on a machine.
type Running struct {
	Program    string            // SHA-256 of the one that is there; "": none
	Roles      map[string]bool   // "pg-1/agent": whether it runs that program
	Servers    map[string]string // by member: the postmaster's pid and when it began
	Unfinished []string          // members of which a predecessor's roles still are to begin anew
}

// Look is a script that says what runs on a machine; ReadRunning understands it. A process
// whose file was replaced by a rename is said to be "(deleted)".
func Look(seats []Seat) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[ ! -f %[1]s ] || echo \"program $(sha256sum <%[1]s | cut -c1-64)\"\n", Program)
	for _, s := range seats {
		fmt.Fprintf(&b, `for f in %[1]s/*.pid; do
	read -r pid _ <"$f" && kill -0 "$pid" && exe=$(readlink "/proc/$pid/exe") || continue
	name=${f##*/}
	echo "role" %[2]s/"${name%%.pid}" "$exe"
done 2>/dev/null
[ ! -e %[1]s/left.json ] || echo "left" %[2]s
`, quote(s.Run), quote(s.Member))
		if s.Data != "" {
			fmt.Fprintf(&b, `{ pid=$(sed -n 1p %[1]s/postmaster.pid) && kill -0 "$pid" && echo "server" %[2]s "$pid $(sed -n 3p %[1]s/postmaster.pid)"; } 2>/dev/null
`, quote(s.Data), quote(s.Member))
		}
	}
	b.WriteString("true\n")
	return b.String()
}

// ReadRunning makes a Running of what Look printed.
func ReadRunning(text string) Running {
	r := Running{Roles: map[string]bool{}, Servers: map[string]string{}}
	for line := range strings.Lines(text) {
		kind, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		name, what, _ := strings.Cut(value, " ")
		switch kind {
		case "program":
			r.Program = value
		case "role":
			r.Roles[name] = what == Program
		case "left":
			r.Unfinished = append(r.Unfinished, name)
		case "server":
			r.Servers[name] = what
		}
	}
	return r
}

// Up says that a supervisor runs.
func (r Running) Up() bool {
	for name := range r.Roles {
		if strings.HasSuffix(name, "/node") {
			return true
		}
	}
	return false
}

// Behind are the roles that do not run the program whose checksum is sum.
func (r Running) Behind(sum string) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(r.Roles)) {
		if r.Program != sum || !r.Roles[name] {
			names = append(names, name)
		}
	}
	return names
}

// Next is where a program waits until it was seen to run.
const Next = Program + ".next"

// Replace puts the program that waits in the place of the one that is there.
const Replace = "set -e\n" + Next + " version >/dev/null\nmv -f " + Next + " " + Program + "\nsync /usr/bin\n"

// Reread has systemd take a unit that was replaced.
const Reread = "systemctl daemon-reload"

// Renew has a supervisor leave its roles to the next one, which has each begin anew. A
// systemd that does not know RestartKillSignal is not asked to restart, which would stop
// the node: it starts again whoever leaves. Where no unit runs it, and nobody else starts
// another one, this does.
func (w Want) Renew() string {
	return fmt.Sprintf(`pid=
[ ! -d /run/systemd/system ] || pid=$(systemctl show -p MainPID --value %[1]s 2>/dev/null)
if [ "${pid:-0}" != 0 ]; then
	v=$(systemctl --version 2>/dev/null | sed -n 's/^systemd \([0-9]*\).*/\1/p')
	if [ "${v:-244}" -ge 244 ]; then systemctl restart %[1]s; else kill -USR2 "$pid"; fi
	exit
fi
read -r pid _ <%[2]s || exit
[ "$(cat /proc/"$pid"/comm)" = howdah ] || { echo "no supervisor runs" >&2; exit 1; }
kill -USR2 "$pid" || exit
n=0
while kill -0 "$pid" 2>/dev/null; do
	[ $n -lt 1200 ] || { echo "the supervisor, process $pid, does not leave" >&2; exit 1; }
	n=$((n+1)); sleep 0.1
done
sleep 1
if read -r now _ <%[2]s && [ "$now" != "$pid" ] && kill -0 "$now" 2>/dev/null; then exit; fi
umask 022
cd /
setsid %[3]s </dev/null >>%[4]s 2>&1 &
`, Unit, quote(w.PID()), strings.Join(w.Command(), " "), Log)
}
