package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"howdah/secret"
)

// A command that tells a secret may take so long, and print so much.
const (
	tellWithin = 10 * time.Second
	tellAtMost = 64 << 10
)

// A teller finds the secrets that an inventory only names.
type teller struct {
	dir    string            // of the inventory
	refuse error             // why it runs no command; nil: it does
	told   map[string]answer // by command: each runs once
}

type answer struct {
	Text secret.Text
	err  error
}

// command runs what stands after "command:": a program and its arguments, and no
// shell. What it prints is the secret, and stands in no error.
func (t *teller) command(line string) (secret.Text, error) {
	if t.refuse != nil {
		return "", t.refuse
	}
	if t.told == nil {
		t.told = map[string]answer{}
	}
	told, ran := t.told[line]
	if !ran {
		told.Text, told.err = ask(line, t.dir, tellWithin)
		t.told[line] = told
	}
	return told.Text, told.err
}

func ask(line, dir string, within time.Duration) (secret.Text, error) {
	args, err := words(line)
	if err != nil {
		return "", err
	}
	name := args[0]
	if strings.Contains(name, "/") && !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args[1:]...)
	out := &bounded{most: tellAtMost}
	cmd.Dir, cmd.Stdout = dir, out                        // what it says besides may hold a secret: nobody reads it
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it starts ends with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	switch exit, ended := errors.AsType[*exec.ExitError](err); {
	case ctx.Err() != nil:
		return "", fmt.Errorf("the command %s took longer than %s", args[0], within)
	case out.over:
		return "", fmt.Errorf("the command %s printed more than %d bytes", args[0], tellAtMost)
	case ended:
		return "", fmt.Errorf("the command %s ended with %s", args[0], exit.ProcessState)
	case err != nil:
		return "", fmt.Errorf("the command %s: %w", args[0], err)
	}
	value := strings.TrimRight(out.text.String(), "\r\n")
	if value == "" || strings.ContainsAny(value, "\r\n\x00") {
		return "", fmt.Errorf("the command %s did not print one line", args[0])
	}
	return secret.Text(value), nil
}

// bounded keeps what is written to it, up to a limit.
type bounded struct {
	text bytes.Buffer
	most int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.over = b.over || b.text.Len()+len(p) > b.most; b.over {
		return 0, fs.ErrInvalid
	}
	return b.text.Write(p)
}

// words are a line's, as spaces divide it; quotes, single or double, keep some
// together. Nothing else has a meaning.
func words(line string) ([]string, error) {
	var all []string
	var word strings.Builder
	var quote rune
	begun := false
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, begun = c, true
		case c == ' ' || c == '\t':
			if begun {
				all = append(all, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	if begun {
		all = append(all, word.String())
	}
	switch {
	case quote != 0:
		return nil, errors.New("its command has a quote that does not end")
	case len(all) == 0 || all[0] == "":
		return nil, errors.New("its command has no program")
	}
	return all, nil
}

// ownInventory says why the commands of an inventory are not run: somebody else could
// have written them.
func ownInventory(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("its command is not run: %s is another user's file", path)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("its command is not run: others may write %s", path)
	}
	return nil
}
