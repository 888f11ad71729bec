# What every part of the bench shares: three machines made of network namespaces,
# the accounting of processor time, and small tools. It is sourced, not run.
#
#   hub  : owns the bridge that joins the others
#   n1-3 : a database node each, $PEERS_NET.11 to .13
#   cli  : the clients, $PEERS_NET.10
#
# All of it lives in network and mount namespaces of its own (private, below), so
# nothing of it can be seen from the host, nor meet anything of the host's.
set -euo pipefail

PEERS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PEERS_STATE=${PEERS_STATE:-/var/tmp/peers} # data, logs, results; PostgreSQL's user has to enter it
export PEERS_PGBIN=${PEERS_PGBIN:-/usr/lib/postgresql/15/bin}
PEERS_NET=${PEERS_NET:-10.99.0} # a subject may have another
NODES=(n1 n2 n3)

log() { printf '%s %s\n' "$(date +%T)" "$*" >&2; }
die() {
  log "ERROR: $*"
  exit 1
}
now_ms() { date +%s%3N; }

# private ARGS... : runs this script again where it has the network and /run to itself
private() {
  [ -z "${PEERS_PRIVATE:-}" ] || return 0
  [ "$(id -u)" = 0 ] || die "run as root: namespaces are made"
  PEERS_PRIVATE=1 exec unshare --net --mount --propagation private bash -c 'mount -t tmpfs none /run && mkdir -p /run/netns && ip link set lo up && exec "$0" "$@"' "$0" "$@"
}
within() { [ -n "${PEERS_PRIVATE:-}" ] || die "run it from \`test/peers/lab\`, a shell with a network of its own"; }

# wait_for SECONDS WHAT COMMAND... : asks five times a second
wait_for() {
  local max=$1 what=$2 end
  shift 2
  end=$(($(now_ms) + max * 1000))
  until "$@" >/dev/null 2>&1; do
    [ "$(now_ms)" -lt "$end" ] || {
      log "not in ${max} s: $what"
      return 1
    }
    sleep 0.2
  done
}

# ---------------------------------------------------------------- machines
ns() { echo "peers-$1"; }
node_ip() { case $1 in cli) echo "$PEERS_NET.10" ;; n[1-3]) echo "$PEERS_NET.1${1#n}" ;; *) die "no such host: $1" ;; esac }
node_dir() { echo "$PEERS_STATE/nodes/$1"; }
on() { # on HOST COMMAND...
  local h=$1
  shift
  ip netns exec "$(ns "$h")" "$@"
}
as_pg() { setpriv --reuid postgres --regid postgres --init-groups --reset-env env PATH="$PEERS_PGBIN:/usr/sbin:/usr/bin:/sbin:/bin" LC_ALL=C.UTF-8 "$@"; }
psql_at() { as_pg psql -X -qAt -h "$1" -p 5432 -U postgres -d postgres -c "$2"; } # SOCKETS SQL, as superuser

lab_is_up() { [ -e "/run/netns/$(ns hub)" ]; }
lab_up() {
  local h n
  lab_is_up && return 0
  ip netns add "$(ns hub)"
  ip -n "$(ns hub)" link set lo up
  ip -n "$(ns hub)" link add br0 type bridge stp_state 0 forward_delay 0
  ip -n "$(ns hub)" link set br0 up
  for h in cli "${NODES[@]}"; do
    n=$(ns "$h")
    ip netns add "$n"
    ip -n "$n" link set lo up
    lab_join "$h"
  done
}
# lab_join HOST : its place on the bridge
lab_join() {
  local n
  n=$(ns "$1")
  ip -n "$(ns hub)" link add "$(lab_port "$1")" type veth peer name eth0 netns "$n"
  ip -n "$(ns hub)" link set "$(lab_port "$1")" master br0 up
  ip -n "$n" addr add "$(node_ip "$1")/24" dev eth0
  ip -n "$n" link set eth0 up
}
lab_port() { echo "v-$1"; }
lab_link() { ip -n "$(ns hub)" link set "$(lab_port "$1")" "$2"; } # HOST up|down: its cable; the isolated side sees silence
# lab_linked HOST : does its cable carry anything again? A refused connection is an answer.
lab_linked() {
  local rc=0
  on "$1" timeout 1 bash -c "exec 3<>/dev/tcp/$(node_ip cli)/9" 2>/dev/null || rc=$?
  [ $rc != 124 ]
}
node_pids() { ip netns pids "$(ns "$1")" 2>/dev/null || true; }
kill_node() { # HOST : every process of that machine, until none is left
  local pids
  for _ in $(seq 1 50); do
    pids=$(node_pids "$1")
    [ -n "$pids" ] || return 0
    # shellcheck disable=SC2086
    kill -KILL $pids 2>/dev/null || true
    sleep 0.1
  done
  die "processes are left on $1"
}
lab_down() {
  local h
  for h in cli "${NODES[@]}"; do [ ! -e "/run/netns/$(ns "$h")" ] || kill_node "$h"; done
  for h in cli "${NODES[@]}" hub; do ip netns del "$(ns "$h")" 2>/dev/null || true; done
}

# ---------------------------------------------------------------- processor time
# Everything of the bench runs in one cgroup; whatever else the machine does is foreign.
cgroup() {
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo /sys/fs/cgroup/peers; else echo /sys/fs/cgroup/cpuacct/peers; fi
}
join_cgroup() { mkdir -p "$(cgroup)" 2>/dev/null && echo $$ >"$(cgroup)/cgroup.procs" || log "no cgroup: foreign processor time cannot be told"; }
own_usec() {
  local f
  f=$(cgroup)
  if [ -e "$f/cpuacct.usage" ]; then echo $(($(cat "$f/cpuacct.usage") / 1000)); else awk '$1=="usage_usec"{print $2}' "$f/cpu.stat"; fi
}
busy_usec() { awk '/^cpu /{printf "%.0f\n", ($2+$3+$4+$7+$8+$9)*1000000/'"$(getconf CLK_TCK)"'}' /proc/stat; }

# ---------------------------------------------------------------- processes
# start_proc HOST NAME USER COMMAND... : in the background; its pid is kept
start_proc() {
  local h=$1 name=$2 user=$3 d
  shift 3
  d=$(node_dir "$h")
  mkdir -p "$d/run" "$d/log"
  (
    ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
    cd /
    if [ "$user" = root ]; then
      exec setsid ip netns exec "$(ns "$h")" "$@"
    else
      exec setsid ip netns exec "$(ns "$h")" setpriv --reuid "$user" --regid "$user" --init-groups --reset-env \
        env PATH="$PEERS_PGBIN:/usr/sbin:/usr/bin:/sbin:/bin" LC_ALL=C.UTF-8 "$@"
    fi
  ) >>"$d/log/$name.log" 2>&1 </dev/null &
  echo $! >"$d/run/$name.pid"
}
proc_pid() { cat "$(node_dir "$1")/run/$2.pid" 2>/dev/null || true; }
proc_alive() {
  local p
  p=$(proc_pid "$1" "$2")
  [ -n "$p" ] && [ -d "/proc/$p" ] && ! grep -q '^State:.Z' "/proc/$p/status" 2>/dev/null
}

probe() { # builds the probe where it has changed, then runs it
  [ -n "${PEERS_PROBE:-}" ] || {
    PEERS_PROBE=$PEERS_STATE/probe
    (cd "$PEERS" && go build -o "$PEERS_PROBE" ./probe) || die "the probe cannot be built"
    export PEERS_PROBE
  }
  "$PEERS_PROBE" "$@"
}

# verb NAME ARGS... : what a subject is asked for is a function of that name
verb() {
  local v=$1
  shift
  declare -F "verb_$v" >/dev/null || die "$(basename "$0"): no verb $v"
  "verb_$v" "$@"
}
