package machine

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"howdah/listen"
	"howdah/machine/doctor"
	"howdah/netport"
	"howdah/node"
	"howdah/nodefile"
	"howdah/postgres"
	"howdah/spec"
)

// Subject is what n's machine is to run, for doctor's eyes.
func Subject(dir string, n spec.Node) doctor.Subject {
	s := doctor.Subject{
		Host: n.Host, Member: n.Member, User: n.User, Server: n.Postgres.Data != "", Major: n.Postgres.Major, Bin: n.Postgres.Bin,
		Dir: n.Paths.Dir, Data: n.Postgres.Data, Run: n.Paths.Run, Secrets: n.Paths.Secrets,
		HugePages: n.Postgres.Parameters["huge_pages"],
	}
	for name := range strings.SplitSeq(n.Postgres.Parameters["shared_preload_libraries"], ",") {
		if name = strings.TrimPrefix(strings.Trim(strings.TrimSpace(name), `'"`), "$libdir/"); name != "" {
			s.Libraries = append(s.Libraries, name)
		}
	}
	if n.TLS.Cert != "" {
		s.TLS = append(s.TLS, n.TLS.Cert)
	}
	cert, _ := Authority(dir)
	s.TLS = append(s.TLS, cert)
	add := func(name, addr string) {
		host, port, err := net.SplitHostPort(addr)
		number, err2 := strconv.Atoi(port)
		if err == nil && err2 == nil {
			s.Ports = append(s.Ports, doctor.Port{Name: name, Address: host, Port: number})
		}
	}
	if s.Server {
		add("PostgreSQL", net.JoinHostPort(n.Address, strconv.Itoa(n.Postgres.Port)))
		add("the agent", n.Agent.Listen)
	}
	for _, p := range listen.Gateway(n) {
		host := p.Host
		if host == "" {
			host = "*"
		}
		add("the gateway's "+p.Name, net.JoinHostPort(host, strconv.Itoa(p.Port)))
	}
	if m, ok := n.Etcd.Self(); ok {
		for _, door := range []struct{ name, url string }{{"etcd", m.Client}, {"etcd's peers", m.Peer}} {
			if u, err := url.Parse(door.url); err == nil {
				add(door.name, u.Host)
			}
		}
	}
	add("the exporter", n.Jobs.Exporter)
	add("the repository", n.Backup.Listen)
	add("the logs", n.Logs.Listen)
	for _, addr := range n.DNS.Listen {
		add("the name server", addr)
	}
	for _, addr := range n.Observe.Listen {
		add("the store of metrics", addr)
	}
	add("the console", n.Observe.Console)
	return s
}

// Look gathers what doctor judges of this machine. It changes nothing; to see how long
// a flush takes it writes a file without a name.
func Look(ctx context.Context, s doctor.Subject) doctor.Facts {
	if n, err := nodefile.Load(s.Dir); err == nil { // it was set up: what it runs is known better
		known := Subject(stateOf(n), n)
		known.Ports = s.Ports // as they are to be
		known.Host = s.Host
		s = known
		s.Shared = buffers(n.Postgres.Parameters["shared_buffers"])
	}
	f := doctor.Facts{Subject: s, Root: os.Geteuid() == 0, Kernel: map[string]string{}, At: time.Now()}
	f.Host, _ = os.Hostname()
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				f.Addresses = append(f.Addresses, p.Addr().String())
			}
		}
	}
	if s.Run != "" {
		if id, ok := node.SupervisorFile(spec.Node{Paths: spec.Paths{Run: s.Run}}).Read(); ok {
			f.Supervisor = id.PID
		}
	}
	for _, p := range s.Ports {
		if by, ok := netport.Holder(p.Address, p.Port); ok {
			f.Held = append(f.Held, doctor.Held{Port: p, By: by})
		}
	}
	clock(&f)
	limits(&f)
	memory(&f)
	resolve(ctx, &f)
	server(&f)
	storage(&f)
	certificates(&f)
	return f
}

// buffers are the bytes of shared_buffers, which counts in pages where it has no unit.
func buffers(text string) int64 {
	text = strings.Trim(strings.TrimSpace(text), "'")
	end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(text)
	}
	n, err := strconv.ParseInt(text[:end], 10, 64)
	unit, ok := map[string]int64{"": 8 << 10, "B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}[strings.TrimSpace(text[end:])]
	if err != nil || !ok {
		return 0
	}
	return n * unit
}

// stateOf is the state directory that n's lies in.
func stateOf(n spec.Node) string { return filepath.Dir(filepath.Dir(n.Paths.Dir)) }

// clock asks the kernel whether somebody steers it (adjtimex(2)).
func clock(f *doctor.Facts) {
	const unsynchronised = 0x40 // STA_UNSYNC
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return
	}
	synced := t.Status&unsynchronised == 0
	f.Synced, f.MaxError = &synced, time.Duration(t.Maxerror)*time.Microsecond
}

// limits reads the hard limit: Go raises the soft one to it, and so does PostgreSQL
// what it needs.
func limits(f *doctor.Facts) {
	pid := "self"
	if f.Supervisor != 0 {
		pid = strconv.Itoa(f.Supervisor)
	}
	text, err := os.ReadFile("/proc/" + pid + "/limits")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, "Max open files")
		words := strings.Fields(rest)
		switch {
		case !ok || len(words) < 2:
		case words[1] == "unlimited":
			f.OpenFiles = 1 << 30
		default:
			f.OpenFiles, _ = strconv.ParseUint(words[1], 10, 64) // 0: not known
		}
	}
}

func memory(f *doctor.Facts) {
	text, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, ":")
		words := strings.Fields(rest)
		if len(words) == 0 {
			continue
		}
		n, err := strconv.ParseInt(words[0], 10, 64)
		into := map[string]*int64{
			"MemTotal": &f.MemoryKB, "SwapTotal": &f.SwapKB, "HugePages_Total": &f.HugeTotal, "HugePages_Free": &f.HugeFree, "Hugepagesize": &f.HugeKB,
		}[name]
		if err == nil && into != nil {
			*into = n
		}
	}
	for _, name := range []string{"vm.overcommit_memory", "vm.swappiness", "vm.panic_on_oom", "net.core.somaxconn"} {
		if text, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/")); err == nil {
			f.Kernel[name] = strings.TrimSpace(string(text))
		}
	}
	if text, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled"); err == nil {
		f.Kernel["transparent_hugepage"] = strings.TrimSpace(string(text))
	}
}

func resolve(ctx context.Context, f *doctor.Facts) {
	const most = 3 * time.Second
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	f.Localhost, _ = net.DefaultResolver.LookupHost(ctx, "localhost")
	began := time.Now()
	f.OwnName, _ = net.DefaultResolver.LookupHost(ctx, f.Host)
	f.Resolving = time.Since(began)
}

func server(f *doctor.Facts) {
	s := f.Subject
	if !s.Server {
		return
	}
	all := postgres.FindAll()
	if own, err := postgres.At(s.Bin); err == nil { // it runs these, wherever they are
		all = append(slices.DeleteFunc(all, func(p postgres.Programs) bool { return p.Major == own.Major }), own)
	}
	for _, p := range all {
		f.Postgres = append(f.Postgres, doctor.Installed{Major: p.Major, Version: p.Version, Bin: p.Bin})
		if p.Major != s.Major {
			continue
		}
		for _, name := range s.Libraries {
			if !postgres.HasLibrary(p.Bin, name) {
				f.Missing = append(f.Missing, name)
			}
		}
	}
	if s.User == "" {
		return
	}
	u, err := user.Lookup(s.User)
	there := err == nil
	f.User = &there
	for _, p := range []struct{ what, path string }{{"the data", s.Data}, {"the passwords", s.Secrets}} {
		if place, ok := placeOf(p.what, p.path, u); ok {
			f.Places = append(f.Places, place)
		}
	}
	_, key := Authority(filepath.Dir(filepath.Dir(s.Dir)))
	if place, ok := placeOf("the keys", key, u); ok {
		f.Places = append(f.Places, place)
	}
}

func placeOf(what, path string, u *user.User) (p doctor.Place, ok bool) {
	st, err := os.Stat(path)
	if path == "" || err != nil {
		return p, false
	}
	p = doctor.Place{What: what, Path: path, Mode: uint32(st.Mode().Perm()), Owner: "?"}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		p.Owner = strconv.Itoa(int(sys.Uid))
		if o, err := user.LookupId(p.Owner); err == nil {
			p.Owner = o.Username
		}
	}
	p.Enter = true
	if u == nil {
		return p, true
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err == nil {
			mode, sys := st.Mode().Perm(), st.Sys().(*syscall.Stat_t)
			enters := mode&0o001 != 0 || strconv.Itoa(int(sys.Uid)) == u.Uid && mode&0o100 != 0 || strconv.Itoa(int(sys.Gid)) == u.Gid && mode&0o010 != 0
			p.Enter = p.Enter && enters
		}
		if dir == filepath.Dir(dir) {
			return p, true
		}
	}
}

// storage looks at the file system of the node's directory, or where that will be.
func storage(f *doctor.Facts) {
	dir := f.Subject.Dir
	if dir == "" {
		return
	}
	for {
		if st, err := os.Stat(dir); err == nil && st.IsDir() || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil {
		f.Disks = append(f.Disks, doctor.Disk{
			What: "the state directory", Path: dir, Size: int64(fs.Blocks) * fs.Bsize, Free: int64(fs.Bavail) * fs.Bsize,
			Inodes: int64(fs.Files), Left: int64(fs.Ffree),
		})
	}
	f.FlushDir = dir
	var err error
	if f.Flushes, err = flushes(dir); err != nil {
		f.FlushError = err.Error()
	}
}

// flushes writes a page again and again, as a commit writes its log, and sees it to disk.
func flushes(dir string) (took []time.Duration, err error) {
	const times, most = 60, 3 * time.Second
	file, err := os.CreateTemp(dir, ".howdah-doctor-")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := os.Remove(file.Name()); err != nil { // it ends with this process
		return nil, err
	}
	page := make([]byte, 8<<10)
	for i := range page {
		page[i] = byte(i * 7)
	}
	for began := time.Now(); len(took) < times && time.Since(began) < most; {
		start := time.Now()
		if _, err := file.WriteAt(page, int64(len(took)*len(page))); err != nil {
			return took, err
		}
		if err := unix.Fdatasync(int(file.Fd())); err != nil {
			return took, fmt.Errorf("flush: %w", err)
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}

func certificates(f *doctor.Facts) {
	for _, path := range f.Subject.TLS {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // it is not made yet
		}
		c := doctor.Cert{Path: path}
		var cert *x509.Certificate
		if err == nil {
			if block, _ := pem.Decode(text); block != nil {
				cert, err = x509.ParseCertificate(block.Bytes)
			} else {
				err = errors.New("it holds no certificate")
			}
		}
		if err != nil {
			c.Error = err.Error()
		} else {
			c.Until = cert.NotAfter
		}
		f.Certs = append(f.Certs, c)
	}
}
