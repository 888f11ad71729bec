// Package nodefile reads and writes what a node is told at set-up: node.json,
// the whole of spec.Node, and the cluster's secrets beside it.
//
// The program writes both, and another version of it may read them: a key that
// it does not know is passed over. Writing is atomic and durable: a role that
// starts in the middle of a power cut finds the old file or the new one.
package nodefile

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"

	"howdah/problem"
	"howdah/secret"
	"howdah/spec"
)

// Name is the file in a node's directory.
const Name = "node.json"

// Load reads DIR/node.json.
func Load(dir string) (spec.Node, error) {
	var n spec.Node
	path := filepath.Join(dir, Name)
	if err := read(path, &n); err != nil {
		return spec.Node{}, &problem.Error{
			Code: "node-file", What: "cannot read the description of this node", Why: path,
			Do: "give the directory that `howdah up` or `howdah node` made, or run it again", Err: err,
		}
	}
	if n.Paths.Dir == "" || n.Member == "" || n.Cluster == "" {
		return spec.Node{}, &problem.Error{
			Code: "node-file", What: "cannot use the description of this node",
			Why: path + " does not name the cluster, the member or its directory",
			Do:  "run `howdah up` again to write it anew",
		}
	}
	if err := n.Validate(); err != nil {
		p := problem.Plain(err)
		p.Why = path + ": " + p.Why
		return spec.Node{}, &p
	}
	return n, nil
}

// Write writes n to its place, owned by uid and gid (-1: as it comes).
func Write(n spec.Node, uid, gid int) error {
	b, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return fmt.Errorf("node file: %w", err)
	}
	return WriteFile(filepath.Join(n.Paths.Dir, Name), append(b, '\n'), 0o644, uid, gid)
}

// Update writes n unless its file says the same already. changed is false for
// a file that was not there: nobody has read it.
func Update(n spec.Node, uid, gid int) (changed bool, err error) {
	path := filepath.Join(n.Paths.Dir, Name)
	b, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return false, fmt.Errorf("node file: %w", err)
	}
	b = append(b, '\n')
	old, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(old, b):
		return false, nil
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return false, err
	}
	return err == nil, WriteFile(path, b, 0o644, uid, gid)
}

// MergeSecrets puts the secrets that are given to those in the file at path.
// One that is given as "" is generated, if the file has none of that name.
func MergeSecrets(path string, given map[string]secret.Text, uid, gid int) (changed bool, err error) {
	have := map[string]secret.Text{}
	_, err = os.Stat(path)
	there := err == nil
	if there {
		if have, err = Secrets(spec.Node{Paths: spec.Paths{Secrets: path}}); err != nil {
			return false, err
		}
	}
	for name, value := range given {
		if value == "" {
			if value = have[name]; value == "" {
				value = secret.Text(rand.Text())
			}
		}
		if have[name] != value {
			have[name], changed = value, true
		}
	}
	if !changed {
		return false, nil
	}
	return there, WriteSecrets(path, have, uid, gid)
}

// Inherited are the secrets that are given to a cluster which follows the one whose
// secrets are at path: what nobody gave is as there, for its roles are copies.
func Inherited(path string, given map[string]secret.Text) (map[string]secret.Text, error) {
	theirs, err := Secrets(spec.Node{Paths: spec.Paths{Secrets: path}})
	if err != nil {
		return nil, err
	}
	all := maps.Clone(given)
	for name, value := range all {
		if value == "" {
			all[name] = theirs[name]
		}
	}
	return all, nil
}

// Secrets reads the cluster's secrets by name.
func Secrets(n spec.Node) (map[string]secret.Text, error) {
	var m map[string]string
	if err := read(n.Paths.Secrets, &m); err != nil {
		return nil, &problem.Error{
			Code: "secrets-file", What: "cannot read the secrets of cluster " + n.Cluster, Why: n.Paths.Secrets,
			Do: "it is a JSON object of names and passwords, readable by the user who runs the node; restore it, or run `howdah up` again", Err: err,
		}
	}
	secrets := make(map[string]secret.Text, len(m))
	for name, value := range m {
		secrets[name] = secret.Text(value)
	}
	return secrets, nil
}

// WriteSecrets writes secrets to path, readable by their owner alone.
func WriteSecrets(path string, secrets map[string]secret.Text, uid, gid int) error {
	b, err := EncodeSecrets(secrets)
	if err != nil {
		return err
	}
	return WriteFile(path, b, 0o600, uid, gid)
}

// EncodeSecrets is what a file of secrets holds.
func EncodeSecrets(secrets map[string]secret.Text) ([]byte, error) {
	m := make(map[string]string, len(secrets))
	for name, value := range secrets {
		m[name] = value.Reveal()
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("secrets file: %w", err)
	}
	return append(b, '\n'), nil
}

// DecodeSecrets reads what a file of secrets holds.
func DecodeSecrets(b []byte) (map[string]secret.Text, error) {
	var m map[string]string
	if err := json.Unmarshal(b, &m); err != nil { // which quotes keys and types only
		return nil, fmt.Errorf("secrets file: %w", err)
	}
	secrets := make(map[string]secret.Text, len(m))
	for name, value := range m {
		secrets[name] = secret.Text(value)
	}
	return secrets, nil
}

func read(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(into); err != nil {
		line := 1 + bytes.Count(b[:min(d.InputOffset(), int64(len(b)))], []byte("\n"))
		// The values of a secrets file must not come back in the error: json
		// quotes keys and types only.
		return fmt.Errorf("%s:%d: %w", path, line, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: there is more after the end of the object", path)
	}
	return nil
}

// WriteFile writes aside, syncs, renames and syncs the directory.
func WriteFile(path string, b []byte, mode os.FileMode, uid, gid int) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if uid >= 0 {
		if err := f.Chown(uid, gid); err != nil {
			return err
		}
	}
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
