package ssh

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"howdah/problem"
)

// A trust decides about the key that one machine shows.
type trust struct {
	target     Target
	who        Person
	known      ssh.HostKeyCallback
	algorithms []string // kinds of key that are known of it, to ask for one of these; nil: any
	refusal    error    // why it is not trusted
	accepted   string   // fingerprint of what was written down
}

// trust reads what is known of t.
func (p Person) trust(t Target) (*trust, error) {
	var there []string
	for _, path := range p.Known {
		if _, err := os.Stat(path); err == nil {
			there = append(there, path)
		}
	}
	known, err := knownhosts.New(there...)
	if err != nil {
		return nil, &problem.Error{
			Code: "ssh-known-hosts", What: "cannot read the keys of machines that are known", Err: err,
			Do: "correct that line, or take it out",
		}
	}
	tr := &trust{target: t, who: p, known: known}
	tr.algorithms = tr.kinds()
	return tr, nil
}

// nobody is a key that no machine has: asked about it, known_hosts says which it has.
type nobody struct{}

func (nobody) Type() string                            { return "none" }
func (nobody) Marshal() []byte                         { return nil }
func (nobody) Verify(_ []byte, _ *ssh.Signature) error { return errors.New("no key") }

// kinds are the algorithms of the keys that are known of the machine. Without
// asking for them it may show another of its keys, which would look like a change.
func (tr *trust) kinds() []string {
	wrong, ok := errors.AsType[*knownhosts.KeyError](tr.known(tr.target.addr(), tr.remote(), nobody{}))
	if !ok {
		return nil
	}
	var all []string
	for _, k := range wrong.Want {
		switch kind := k.Key.Type(); kind {
		case ssh.KeyAlgoRSA: // the key may sign in either way (RFC 8332)
			all = append(all, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512)
		default:
			all = append(all, kind)
		}
	}
	return all
}

// remote stands for the address, which known_hosts is not asked by.
func (tr *trust) remote() net.Addr { return &net.TCPAddr{IP: net.IPv4zero} }

func (tr *trust) check(hostname string, _ net.Addr, key ssh.PublicKey) error {
	err := tr.known(hostname, tr.remote(), key)
	if err == nil {
		return nil
	}
	print := key.Type() + " " + ssh.FingerprintSHA256(key)
	if wrong, ok := errors.AsType[*knownhosts.KeyError](err); ok && len(wrong.Want) == 0 {
		if tr.who.Accept && len(tr.who.Known) > 0 {
			if err = record(tr.who.Known[0], hostname, key); err == nil {
				tr.accepted = print
				return nil
			}
			tr.refusal = &problem.Error{
				Code: "ssh-known-hosts", What: "cannot write down the key of " + tr.target.String(), Err: err,
				Do: "see that " + tr.who.Known[0] + " can be written",
			}
			return tr.refusal
		}
		tr.refusal = &problem.Error{
			Code: "ssh-host-unknown", What: "cannot trust " + tr.target.String(), Why: "nobody knows its key " + print,
			Do: "compare this fingerprint with what `ssh-keygen -lf /etc/ssh/ssh_host_" + file(key.Type()) + "_key.pub` says on the machine itself; if it is the same, --accept-new writes it down",
		}
		return tr.refusal
	}
	p := &problem.Error{
		Code: "ssh-host-changed", What: "cannot trust " + tr.target.String(), Why: "it shows the key " + print + ", which is not the one that is known",
		Do: "find out why: somebody may be in between, or the machine was set up anew; only then `ssh-keygen -R '" + knownhosts.Normalize(hostname) + "'` forgets the old key",
	}
	if wrong, ok := errors.AsType[*knownhosts.KeyError](err); ok {
		for _, k := range wrong.Want {
			p.Why += fmt.Sprintf("\n%s:%d has %s %s", k.Filename, k.Line, k.Key.Type(), ssh.FingerprintSHA256(k.Key))
		}
	} else {
		p.Err = err // a key that was revoked
	}
	tr.refusal = p
	return p
}

// file is what sshd calls the file of a kind of key.
func file(kind string) string {
	switch {
	case strings.HasPrefix(kind, "ecdsa-"):
		return "ecdsa"
	case kind == ssh.KeyAlgoRSA:
		return "rsa"
	}
	return "ed25519"
}

// record adds a machine's key to a file of known hosts, in one write: others may do
// the same at once.
func record(path, hostname string, key ssh.PublicKey) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	line := knownhosts.Line([]string{hostname}, key) + "\n"
	if old, err := os.ReadFile(path); err == nil && len(old) > 0 && old[len(old)-1] != '\n' {
		line = "\n" + line
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}
