// Package ssh is a person's way onto another machine: it logs in, runs commands
// there as root, and puts files in their place.
//
// It trusts nobody whose key is not known: an unknown host is an error that shows
// the fingerprint, and a changed one always is. What is secret goes through the
// connection only, never onto a command line. It logs in with keys, those of an
// agent first; it asks for no password. Formats are OpenSSH's: ssh(1), sshd(8)
// (known_hosts).
package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"howdah/problem"
)

const (
	reach   = 10 * time.Second // for a connection
	hands   = 30 * time.Second // for both sides to prove who they are
	beat    = 15 * time.Second // between two signs of life
	silence = 30 * time.Second // a machine that gives none for so long is lost
)

// A Target is a machine, and whom to log in as.
type Target struct {
	Host    string // as the inventory names it
	Address string // of its SSH server; "": Host
	Port    int    // 0: 22
	User    string
}

// addr is where its SSH server listens.
func (t Target) addr() string {
	host, port := t.Address, t.Port
	if host == "" {
		host = t.Host
	}
	if port == 0 {
		port = 22
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// String is how a person names it to ssh(1).
func (t Target) String() string {
	name := t.User + "@" + t.Host
	if t.Address != "" && t.Address != t.Host {
		name += " (" + t.Address + ")"
	}
	if t.Port != 0 && t.Port != 22 {
		name += " port " + strconv.Itoa(t.Port)
	}
	return name
}

// A Person is who logs in, and whom she trusts.
type Person struct {
	Agent  string   // socket of the agent; "": none
	Keys   []string // files of private keys; what is not there is passed over
	Named  []string // files that must be there, before Keys
	Known  []string // known_hosts; those that are not there are empty
	Accept bool     // take hosts that nobody knows, and write them down in the first of Known
}

// A Machine is a connection to one. It carries one command at a time or several.
type Machine struct {
	Target
	Accepted string // the fingerprint of its key, if it was written down just now

	client *ssh.Client
	sudo   bool // commands need it to be root's
	closed chan struct{}
	watch  sync.WaitGroup
}

// Dial logs in to t and sees that commands there can be root's. When ctx ends, so does
// the connection.
func Dial(ctx context.Context, t Target, who Person) (*Machine, error) {
	trust, err := who.trust(t)
	if err != nil {
		return nil, err
	}
	offer, err := who.offer(ctx)
	if err != nil {
		return nil, err
	}
	defer offer.Close()
	d := net.Dialer{Timeout: reach}
	conn, err := d.DialContext(ctx, "tcp", t.addr())
	if err != nil {
		return nil, &problem.Error{
			Code: "ssh-unreachable", What: "cannot reach " + t.String() + " by SSH", Err: err,
			Do: "see that the machine runs and its SSH server listens there; ansible_host and ansible_port in the inventory say where it is",
		}
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(hands)) // of a socket that is open
	c, chans, reqs, err := ssh.NewClientConn(conn, t.addr(), &ssh.ClientConfig{
		User: t.User, Auth: offer.methods(), HostKeyCallback: trust.check, HostKeyAlgorithms: trust.algorithms, ClientVersion: "SSH-2.0-howdah",
	})
	if err != nil {
		stop()
		conn.Close()
		return nil, t.refused(ctx, err, trust, offer)
	}
	_ = conn.SetDeadline(time.Time{})
	m := &Machine{Target: t, Accepted: trust.accepted, client: ssh.NewClient(c, chans, reqs), closed: make(chan struct{})}
	m.watch.Go(func() {
		m.listen()
		stop()
	})
	if err := m.root(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// refused says why there is no connection.
func (t Target) refused(ctx context.Context, err error, trust *trust, offer *offer) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case trust.refusal != nil:
		return trust.refusal
	case strings.Contains(err.Error(), "unable to authenticate"):
		why := "it takes none of the keys " + strings.Join(offer.names, ", ")
		if len(offer.names) == 0 {
			why = "there is no key to log in with"
		}
		for _, left := range offer.left {
			why += "\n" + left
		}
		return &problem.Error{
			Code: "ssh-refused", What: "cannot log in as " + t.String(), Why: why,
			Do: "put a public key into authorized_keys of " + t.User + " there (ssh-copy-id), add the private one to the agent (ssh-add) or name it with --identity; ansible_user in the inventory says whom to log in as",
		}
	}
	return &problem.Error{
		Code: "ssh-unreachable", What: "cannot reach " + t.String() + " by SSH", Why: "the connection ended before anybody was logged in", Err: err,
		Do: "see that an SSH server listens there, and what it says in its log",
	}
}

// root finds out how commands become root's.
func (m *Machine) root(ctx context.Context) error {
	out, err := m.run(ctx, "id -u", nil)
	if err != nil {
		return err
	}
	if strings.TrimSpace(out) == "0" {
		return nil
	}
	m.sudo = true
	if _, err = m.Run(ctx, "true", nil); err == nil {
		return nil
	}
	failed, ok := errors.AsType[*Failed](err)
	if !ok {
		return err
	}
	return &problem.Error{
		Code: "sudo-missing", What: "cannot become root on " + m.String(), Why: failed.Error(),
		Do: "let " + m.User + " use sudo without a password (a file in /etc/sudoers.d with the line `" + m.User + " ALL=(ALL) NOPASSWD: ALL`), or log in as root (ansible_user: root)",
	}
}

// listen ends a connection whose other side is silent, which TCP alone would
// notice after a quarter of an hour.
func (m *Machine) listen() {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-m.closed:
			return
		case <-tick.C:
		}
		lost := time.AfterFunc(silence, func() { m.client.Close() })
		_, _, err := m.client.SendRequest("keepalive@openssh.com", true, nil)
		lost.Stop()
		if err != nil {
			<-m.closed
			return
		}
	}
}

// Sudo says that commands need sudo to be root's.
func (m *Machine) Sudo() bool { return m.sudo }

// Close ends the connection and all that runs over it.
func (m *Machine) Close() error {
	select {
	case <-m.closed:
		return nil
	default:
	}
	close(m.closed)
	err := m.client.Close()
	m.watch.Wait()
	return err
}

// A Failed is a command that ended with an exit code.
type Failed struct {
	Code int
	Text string // the end of what it wrote to stderr
}

func (f *Failed) Error() string {
	text := strings.TrimSpace(f.Text)
	if text == "" {
		return "exit code " + strconv.Itoa(f.Code)
	}
	return text
}

// Most that is kept of what a command writes.
const (
	mostOut = 4 << 20
	mostErr = 4 << 10
)

// A tail keeps the end of what is written to it.
type tail struct {
	most int
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if extra := len(t.text) - t.most; extra > 0 {
		t.text = slices.Delete(t.text, 0, extra)
	}
	return len(p), nil
}

// Run runs a shell script as root and returns what it writes to stdout, also if it
// fails. It has the programs of an administrator and speaks English.
func (m *Machine) Run(ctx context.Context, script string, stdin io.Reader) (string, error) {
	command := "sh -c " + Quote("LC_ALL=C PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; export LC_ALL PATH\n"+script)
	if m.sudo {
		command = "sudo -n " + command
	}
	return m.run(ctx, command, stdin)
}

func (m *Machine) run(ctx context.Context, command string, stdin io.Reader) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", context.Cause(ctx)
	}
	s, err := m.client.NewSession()
	if err != nil {
		return "", m.lost(ctx, err)
	}
	defer s.Close()
	out, errs := &tail{most: mostOut}, &tail{most: mostErr}
	s.Stdout, s.Stderr = out, errs
	if stdin == nil {
		stdin = bytes.NewReader(nil)
	}
	s.Stdin = stdin
	defer context.AfterFunc(ctx, func() { m.client.Close() })()
	err = s.Run(command)
	if exit, ok := errors.AsType[*ssh.ExitError](err); ok {
		f := &Failed{Code: exit.ExitStatus(), Text: string(errs.text)}
		if exit.Signal() != "" {
			f.Text += "\nended by signal " + exit.Signal()
		}
		return string(out.text), f
	}
	if err != nil {
		return string(out.text), m.lost(ctx, err)
	}
	return string(out.text), nil
}

// lost says that the connection ended under a command.
func (m *Machine) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &problem.Error{
		Code: "ssh-lost", What: "lost the connection to " + m.String(), Err: err,
		Do: "given again, the same command does what is left: a file is replaced when all of it has arrived, or not at all",
	}
}

// Quote makes s one word of a shell.
func Quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// An offer is the keys that a person has.
type offer struct {
	signers []ssh.Signer
	names   []string // of keys that are offered
	left    []string // why others are not
	agent   net.Conn
}

// offer gathers the keys. The agent's are asked for a signature while somebody logs
// in, so it stays open until then.
func (p Person) offer(ctx context.Context) (*offer, error) {
	o := &offer{}
	add := func(s ssh.Signer, name string) {
		for _, has := range o.signers {
			if bytes.Equal(has.PublicKey().Marshal(), s.PublicKey().Marshal()) {
				return
			}
		}
		o.signers, o.names = append(o.signers, s), append(o.names, name)
	}
	file := func(path string) error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		s, err := ssh.ParsePrivateKey(text)
		if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
			o.left = append(o.left, path+" has a passphrase: `ssh-add "+path+"` unlocks it")
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		add(s, path)
		return nil
	}
	for _, path := range p.Named {
		if err := file(path); err != nil {
			return nil, &problem.Error{Code: "ssh-key", What: "cannot log in with the key " + path, Err: err, Do: "name the file of a private key, as ssh-keygen makes it"}
		}
	}
	if p.Agent != "" {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", p.Agent)
		if err == nil {
			var signers []ssh.Signer
			o.agent = conn
			if signers, err = agent.NewClient(conn).Signers(); err == nil {
				for _, s := range signers {
					add(s, "of the agent ("+ssh.FingerprintSHA256(s.PublicKey())+")")
				}
			}
		}
		if err != nil {
			o.left = append(o.left, "the agent does not answer: "+err.Error())
		}
	}
	for _, path := range p.Keys {
		if err := file(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			o.left = append(o.left, err.Error())
		}
	}
	return o, nil
}

func (o *offer) methods() []ssh.AuthMethod { return []ssh.AuthMethod{ssh.PublicKeys(o.signers...)} }

func (o *offer) Close() {
	if o.agent != nil {
		o.agent.Close()
	}
}
