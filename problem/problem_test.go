package problem

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

func TestError(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  *Error
		line string
		text string
	}{
		{
			"all parts",
			&Error{Code: "datadir-foreign", What: "cannot join pg-meta", Why: "the data directory is of system 1", Do: "move it away", Err: fs.ErrExist},
			"cannot join pg-meta: the data directory is of system 1: file already exists; move it away [datadir-foreign]",
			"cannot join pg-meta\n  why: the data directory is of system 1: file already exists\n  do:  move it away\n  [datadir-foreign]",
		},
		{
			"only a cause",
			&Error{Code: "x", What: "cannot", Err: fs.ErrExist},
			"cannot: file already exists [x]",
			"cannot\n  why: file already exists\n  [x]",
		},
		{"nothing more to say", &Error{Code: "x", What: "cannot"}, "cannot [x]", "cannot\n  [x]"},
	} {
		if got := tt.err.Error(); got != tt.line {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.line)
		}
		if got := Text(fmt.Errorf("start: %w", tt.err)); got != tt.text {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.text)
		}
	}
}

func TestCode(t *testing.T) {
	err := fmt.Errorf("start: %w", errors.Join(errors.New("other"), &Error{Code: "port-taken", What: "cannot listen", Err: fs.ErrPermission}))
	if got := Code(err); got != "port-taken" {
		t.Errorf("code = %q", got)
	}
	if !errors.Is(err, fs.ErrPermission) {
		t.Error("the cause is lost")
	}
	for _, err := range []error{nil, errors.New("plain")} {
		if got := Code(err); got != "" {
			t.Errorf("code of %v = %q", err, got)
		}
	}
	if got := Text(errors.New("plain")); got != "plain" {
		t.Errorf("a plain error prints as %q", got)
	}
}
