package pki

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Stage is how far one authority has taken over from another.
type Stage string

// The stages. Each is brought to all machines before the next: first everyone trusts
// the new authority, then it signs, then the old one is trusted no more. So at every
// moment each machine trusts whoever signed the others' certificates.
const (
	Settled   Stage = "settled"   // one authority
	Announced Stage = "announced" // a second one is trusted
	Signing   Stage = "signing"   // the second one signs, and the first is trusted still
)

// StageOf says how far the authority in dir is; fs.ErrNotExist: there is none.
func StageOf(dir string) (Stage, error) {
	a, err := authorityIn(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", err
	case err != nil:
		return "", unusable(dir, err)
	}
	return a.stage(), nil
}

func (a *Authority) stage() Stage {
	switch {
	case len(a.trust) < 2:
		return Settled
	case exists(filepath.Join(filepath.Dir(a.File), "next.key")):
		return Announced
	}
	return Signing
}

// Turn takes the next step from the authority in dir to another one: Settled becomes
// Announced, Announced Signing, and Signing Settled again. Ended anywhere, it is
// given again.
func Turn(dir, name string) (Stage, error) {
	a, err := authorityIn(dir)
	if err != nil {
		return "", err
	}
	certFile, keyFile, nextFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key"), filepath.Join(dir, "next.key")
	if err := remember(dir, certFile, keyFile); err != nil {
		return "", err
	}
	switch a.stage() {
	case Settled:
		cert, key, err := newAuthority(name + " of " + time.Now().UTC().Format(time.DateTime))
		if err == nil {
			err = write(nextFile, key, 0o600, nil)
		}
		if err == nil {
			err = write(certFile, append(a.bundle(), cert...), 0o644, nil)
		}
		return Announced, err
	case Announced:
		return Signing, os.Rename(nextFile, keyFile) // by the key the certificate is known that signs
	}
	return Settled, write(certFile, encode("CERTIFICATE", a.cert.Raw), 0o644, nil)
}

// former has the checksums of the files of earlier stages.
const former = "former"

// Former are the SHA-256 of what ca.pem and ca.key in dir were at earlier stages:
// whoever has these is behind, and no stranger.
func Former(dir string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, former))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("earlier authorities: %w", err)
	}
	return strings.Fields(string(text)), nil
}

func remember(dir string, files ...string) error {
	all, err := Former(dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(text)
		if one := hex.EncodeToString(sum[:]); !slices.Contains(all, one) {
			all = append(all, one)
		}
	}
	return write(filepath.Join(dir, former), []byte(strings.Join(all, "\n")+"\n"), 0o644, nil)
}
