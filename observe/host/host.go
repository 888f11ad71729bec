// Package host tells how a machine is, by the names of node_exporter: those of its
// series that dashboards and rules ask for.
//
// It reads nothing: it is given the text of the kernel's files and what system
// calls said, and is a pure function of them. What a kernel does not have has no
// series. Sources: the kernel's Documentation/filesystems/proc.rst,
// admin-guide/iostats.rst, scheduler/sched-stats.rst; node_exporter 1.8, whose
// kinds and labels these are.
package host

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/exposition"
)

// Facts are what a machine says of itself.
type Facts struct {
	Files  map[string]string // by their path without the first slash; one that is missing is not there
	Mounts []Mount
	Names  Names
	Clock  *Clock        // nil: the kernel did not say
	Took   time.Duration // to find all that out
}

// Names are those of uname.
type Names struct{ Sysname, Release, Version, Machine, Nodename, Domainname string }

// A Clock is what adjtimex says.
type Clock struct {
	Synced    bool
	Status    int
	Offset    time.Duration
	Frequency int64 // parts per million, times 65536
}

// A Mount is a file system with what statfs said of it.
type Mount struct {
	Device, Point, Type string
	ReadOnly            bool
	Failed              bool // there was no answer; the numbers are none
	Size, Free, Avail   float64
	Files, FilesFree    float64
}

// Proc are the files of /proc that Metrics wants; those of /sys are in Sys.
var Proc = strings.Fields(`proc/stat proc/meminfo proc/loadavg proc/diskstats proc/vmstat proc/schedstat proc/net/dev proc/net/snmp
	proc/net/netstat proc/net/sockstat proc/sys/fs/file-nr proc/sys/kernel/threads-max proc/sys/kernel/pid_max`)

// Sys are patterns of files of /sys that Metrics wants.
var Sys = strings.Fields(`sys/class/net/*/address sys/class/net/*/broadcast sys/class/net/*/duplex sys/class/net/*/ifalias sys/class/net/*/operstate
	sys/class/net/*/mtu sys/class/net/*/speed sys/devices/system/edac/mc/mc[0-9]*/ce_count sys/devices/system/edac/mc/mc[0-9]*/ue_count`)

// Metrics tells all that f has.
func Metrics(f Facts) []byte {
	var t exposition.Text
	f.cpu(&t)
	f.schedule(&t)
	f.memory(&t)
	f.load(&t)
	f.disks(&t)
	f.mounts(&t)
	f.network(&t)
	f.protocols(&t)
	f.kernel(&t)
	t.Gauge("node_scrape_collector_duration_seconds", "seconds that it took to look at everything", f.Took.Seconds(), "collector", "howdah")
	return t.Bytes()
}

// lines are the lines of a file in words; none if the file is not there.
func (f Facts) lines(path string, do func(words []string)) {
	for line := range strings.Lines(f.Files[path]) {
		if words := strings.Fields(line); len(words) > 0 {
			do(words)
		}
	}
}

func number(text string) (float64, bool) {
	v, err := strconv.ParseFloat(text, 64)
	return v, err == nil
}

// tick is a second in /proc/stat (USER_HZ), which is 100 on every Linux.
const tick = 100

func (f Facts) cpu(t *exposition.Text) {
	modes := []string{"user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"}
	counters := map[string][2]string{
		"intr": {"node_intr_total", "interrupts"}, "ctxt": {"node_context_switches_total", "switches from one thread to another"},
		"processes": {"node_forks_total", "processes and threads begun"},
	}
	gauges := map[string][2]string{
		"btime": {"node_boot_time_seconds", "when the kernel was started, seconds since 1970"}, "procs_running": {"node_procs_running", "threads that run or could"},
		"procs_blocked": {"node_procs_blocked", "threads that wait for a disk"},
	}
	f.lines("proc/stat", func(words []string) {
		if cpu, ok := strings.CutPrefix(words[0], "cpu"); ok && cpu != "" {
			for i, mode := range modes {
				if i+1 < len(words) {
					if v, ok := number(words[i+1]); ok {
						t.Counter("node_cpu_seconds_total", "seconds that the processors spent in each mode", v/tick, "cpu", cpu, "mode", mode)
					}
				}
			}
			return
		}
		if len(words) < 2 {
			return
		}
		v, ok := number(words[1])
		if !ok {
			return
		}
		if m, ok := counters[words[0]]; ok {
			t.Counter(m[0], m[1], v)
		}
		if m, ok := gauges[words[0]]; ok {
			t.Gauge(m[0], m[1], v)
		}
	})
}

// schedule is /proc/schedstat, version 15 and later: of a processor's nine numbers
// the last two are the time that threads waited to run, and how often they ran.
func (f Facts) schedule(t *exposition.Text) {
	f.lines("proc/schedstat", func(words []string) {
		cpu, ok := strings.CutPrefix(words[0], "cpu")
		if !ok || len(words) < 10 {
			return
		}
		if v, ok := number(words[8]); ok {
			t.Counter("node_schedstat_waiting_seconds_total", "seconds that threads waited for the processor", v/1e9, "cpu", cpu)
		}
		if v, ok := number(words[9]); ok {
			t.Counter("node_schedstat_timeslices_total", "turns that threads had on the processor", v, "cpu", cpu)
		}
	})
}

// inMemory are the lines of /proc/meminfo that are told.
var inMemory = set(`Active Active_anon Active_file AnonPages Buffers Cached CommitLimit Committed_AS Dirty HardwareCorrupted HugePages_Free
	HugePages_Rsvd HugePages_Total Hugepagesize Inactive Inactive_anon Inactive_file KernelStack Mapped MemAvailable MemFree MemTotal PageTables
	Slab SwapFree SwapTotal Unevictable VmallocUsed Writeback`)

func set(words string) map[string]bool {
	all := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		all[w] = true
	}
	return all
}

func (f Facts) memory(t *exposition.Text) {
	f.lines("proc/meminfo", func(words []string) {
		name := strings.NewReplacer("(", "_", ")", "", ":", "").Replace(words[0]) // Active(anon): is Active_anon
		if !inMemory[name] || len(words) < 2 {
			return
		}
		v, ok := number(words[1])
		switch {
		case !ok:
		case len(words) > 2 && words[2] == "kB":
			t.Gauge("node_memory_"+name+"_bytes", name+" of /proc/meminfo", v*1024)
		default:
			t.Gauge("node_memory_"+name, name+" of /proc/meminfo", v)
		}
	})
}

func (f Facts) load(t *exposition.Text) {
	f.lines("proc/loadavg", func(words []string) {
		for i, name := range []string{"1", "5", "15"} {
			if i < len(words) {
				if v, ok := number(words[i]); ok {
					t.Gauge("node_load"+name, "threads that ran or waited, on average of so many minutes", v)
				}
			}
		}
		if len(words) > 3 {
			_, all, _ := strings.Cut(words[3], "/")
			if v, ok := number(all); ok {
				t.Gauge("node_processes_threads", "threads that there are", v)
			}
		}
	})
}

// notDisk are block devices that are parts of others or none at all
// (node_exporter's --collector.diskstats.device-exclude).
var notDisk = regexp.MustCompile(`^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`)

func (f Facts) disks(t *exposition.Text) {
	const sector = 512 // whatever the device's own is
	columns := []struct {
		name, help string
		scale      float64
	}{
		{"reads_completed_total", "reads", 1},
		{"reads_merged_total", "reads that became part of another", 1},
		{"read_bytes_total", "bytes read", sector},
		{"read_time_seconds_total", "seconds of all reads together", 1e-3},
		{"writes_completed_total", "writes", 1},
		{"writes_merged_total", "writes that became part of another", 1},
		{"written_bytes_total", "bytes written", sector},
		{"write_time_seconds_total", "seconds of all writes together", 1e-3},
		{"io_now", "reads and writes under way", 1},
		{"io_time_seconds_total", "seconds in which something was under way", 1e-3},
		{"io_time_weighted_seconds_total", "seconds of all that was under way together", 1e-3},
	}
	f.lines("proc/diskstats", func(words []string) {
		if len(words) < 3+len(columns) || notDisk.MatchString(words[2]) {
			return
		}
		for i, c := range columns {
			v, ok := number(words[3+i])
			switch {
			case !ok:
			case c.name == "io_now":
				t.Gauge("node_disk_"+c.name, c.help, v, "device", words[2])
			default:
				t.Counter("node_disk_"+c.name, c.help, v*c.scale, "device", words[2])
			}
		}
	})
}

func (f Facts) mounts(t *exposition.Text) {
	for _, m := range f.Mounts {
		labels := []string{"device", m.Device, "fstype", m.Type, "mountpoint", m.Point}
		say := func(name, help string, v float64) { t.Gauge("node_filesystem_"+name, help, v, labels...) }
		say("device_error", "1 if the file system did not answer", exposition.Truth(m.Failed))
		say("readonly", "1 if nothing can be written", exposition.Truth(m.ReadOnly))
		if m.Failed {
			continue
		}
		say("size_bytes", "bytes that it has", m.Size)
		say("free_bytes", "bytes that are free", m.Free)
		say("avail_bytes", "bytes that are free for whoever is not root", m.Avail)
		say("files", "files that it can have", m.Files)
		say("files_free", "files that it can still have", m.FilesFree)
	}
}

func (f Facts) network(t *exposition.Text) {
	devices := map[string]bool{}
	for line := range strings.Lines(f.Files["proc/net/dev"]) {
		name, rest, ok := strings.Cut(line, ":")
		words := strings.Fields(rest)
		if name = strings.TrimSpace(name); !ok || len(words) < 16 {
			continue // the two lines of the head have no colon
		}
		devices[name] = true
		for _, c := range []struct {
			at         int
			name, help string
		}{
			{0, "receive_bytes_total", "bytes received"},
			{1, "receive_packets_total", "packets received"},
			{8, "transmit_bytes_total", "bytes sent"},
			{9, "transmit_packets_total", "packets sent"},
		} {
			if v, ok := number(words[c.at]); ok {
				t.Counter("node_network_"+c.name, c.help, v, "device", name)
			}
		}
	}
	for _, device := range slices.Sorted(maps.Keys(devices)) {
		of := func(name string) string { return strings.TrimSpace(f.Files["sys/class/net/"+device+"/"+name]) }
		if of("address") == "" && of("mtu") == "" {
			continue
		}
		t.Gauge("node_network_info", "1; the labels say what the device is", 1, "address", of("address"), "broadcast", of("broadcast"), "device", device,
			"duplex", of("duplex"), "ifalias", of("ifalias"), "operstate", of("operstate"))
		if v, ok := number(of("mtu")); ok {
			t.Gauge("node_network_mtu_bytes", "largest packet", v, "device", device)
		}
		if v, ok := number(of("speed")); ok && v >= 0 { // Mbit/s; -1: it has none
			t.Gauge("node_network_speed_bytes", "bytes a second that the device could carry", v*1e6/8, "device", device)
		}
	}
}

var (
	ofTCP = set("ActiveOpens AttemptFails CurrEstab EstabResets InErrs InSegs OutSegs PassiveOpens RetransSegs")
	ofUDP = set("InDatagrams OutDatagrams")
	ofExt = set("ListenDrops ListenOverflows")
	ofVM  = set("numa_hit pgfault pgmajfault pgpgin pgpgout pswpin pswpout")
)

func (f Facts) protocols(t *exposition.Text) {
	for _, path := range []string{"proc/net/snmp", "proc/net/netstat"} {
		names := map[string][]string{} // of the last head of each protocol
		f.lines(path, func(words []string) {
			protocol := strings.TrimSuffix(words[0], ":")
			wanted, ok := map[string]map[string]bool{"Tcp": ofTCP, "Udp": ofUDP, "TcpExt": ofExt}[protocol]
			if !ok {
				return
			}
			head, ok := names[protocol]
			if !ok {
				names[protocol] = words
				return
			}
			for i := 1; i < min(len(head), len(words)); i++ {
				if v, ok := number(words[i]); ok && wanted[head[i]] {
					t.Untyped("node_netstat_"+protocol+"_"+head[i], head[i]+" of "+protocol+" in /"+path, v)
				}
			}
		})
	}
	f.lines("proc/net/sockstat", func(words []string) {
		if words[0] != "TCP:" {
			return
		}
		for i := 1; i+1 < len(words); i += 2 {
			if v, ok := number(words[i+1]); ok && (words[i] == "inuse" || words[i] == "tw") {
				t.Gauge("node_sockstat_TCP_"+words[i], words[i]+" of TCP in /proc/net/sockstat", v)
			}
		}
	})
	f.lines("proc/vmstat", func(words []string) {
		if len(words) < 2 || !ofVM[words[0]] {
			return
		}
		if v, ok := number(words[1]); ok {
			t.Untyped("node_vmstat_"+words[0], words[0]+" of /proc/vmstat", v)
		}
	})
}

func (f Facts) kernel(t *exposition.Text) {
	f.lines("proc/sys/fs/file-nr", func(words []string) {
		for i, m := range [][2]string{{"allocated", "files that are open"}, {}, {"maximum", "files that may be open"}} {
			if i < len(words) && m[0] != "" {
				if v, ok := number(words[i]); ok {
					t.Gauge("node_filefd_"+m[0], m[1], v)
				}
			}
		}
	})
	for _, m := range [][3]string{
		{"proc/sys/kernel/threads-max", "node_processes_max_threads", "threads that there may be"},
		{"proc/sys/kernel/pid_max", "node_processes_max_processes", "largest number of a process"},
	} {
		if v, ok := number(strings.TrimSpace(f.Files[m[0]])); ok {
			t.Gauge(m[1], m[2], v)
		}
	}
	for _, m := range [][3]string{
		{"/ce_count", "node_edac_correctable_errors_total", "errors of memory that were corrected"},
		{"/ue_count", "node_edac_uncorrectable_errors_total", "errors of memory that could not be corrected"},
	} {
		for _, path := range slices.Sorted(maps.Keys(f.Files)) {
			if rest, ok := strings.CutPrefix(path, "sys/devices/system/edac/mc/mc"); ok && strings.HasSuffix(rest, m[0]) {
				if v, ok := number(strings.TrimSpace(f.Files[path])); ok {
					t.Counter(m[1], m[2], v, "controller", strings.TrimSuffix(rest, m[0]))
				}
			}
		}
	}
	if c := f.Clock; c != nil {
		t.Gauge("node_timex_sync_status", "1 if the clock is kept by somebody who knows the time", exposition.Truth(c.Synced))
		t.Gauge("node_timex_status", "status bits of the kernel's clock", float64(c.Status))
		t.Gauge("node_timex_offset_seconds", "how far the clock is from the time that it is kept by", c.Offset.Seconds())
		t.Gauge("node_timex_frequency_adjustment_ratio", "how much faster the clock is made to run", 1+float64(c.Frequency)/(1e6*65536))
	}
	if n := f.Names; n != (Names{}) {
		t.Gauge("node_uname_info", "1; the labels are those of uname", 1, "domainname", n.Domainname, "machine", n.Machine, "nodename", n.Nodename,
			"release", n.Release, "sysname", n.Sysname, "version", n.Version)
	}
}

// Mounts are the file systems of a text like /proc/mounts that are worth a
// question: real ones, each once by its place, by node_exporter's own rules
// (--collector.filesystem.fs-types-exclude, mount-points-exclude).
func Mounts(text string) []Mount {
	notReal := set(`autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs fusectl hugetlbfs iso9660 mqueue nsfs overlay proc procfs
		pstore rpc_pipefs securityfs selinuxfs squashfs erofs sysfs tracefs`)
	places := map[string]Mount{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 4 || notReal[words[2]] {
			continue
		}
		point := unescape.Replace(words[1])
		if slices.ContainsFunc([]string{"/dev", "/proc", "/sys", "/run/credentials", "/var/lib/docker", "/var/lib/containers/storage"}, func(dir string) bool {
			return point == dir || strings.HasPrefix(point, dir+"/")
		}) {
			continue
		}
		places[point] = Mount{ // the last one covers those before it
			Device: unescape.Replace(words[0]), Point: point, Type: words[2],
			ReadOnly: slices.Contains(strings.Split(words[3], ","), "ro"),
		}
	}
	return slices.SortedFunc(maps.Values(places), func(a, b Mount) int { return cmp.Compare(a.Point, b.Point) })
}

// unescape undoes the kernel's mangling of names (fs/proc_namespace.c).
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\043`, "#")
