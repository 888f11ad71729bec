package repo

import (
	"errors"
	"fmt"
	"io/fs"
)

// A Class is one of pgBackRest's errors. Its number is the exit code, and what
// scripts, PostgreSQL and people know the error by (src/build/error/error.yaml).
type Class int

// The classes that we report.
const (
	Assert             Class = 25
	Checksum           Class = 26
	Config             Class = 27
	FileInvalid        Class = 28
	BadFormat          Class = 29
	CommandRequired    Class = 30
	OptionInvalid      Class = 31
	OptionInvalidValue Class = 32
	OptionRequired     Class = 37
	PostmasterRunning  Class = 38
	Protocol           Class = 39
	PathNotEmpty       Class = 40
	FileOpen           Class = 41
	ParamRequired      Class = 43
	ArchiveMismatch    Class = 44
	ArchiveDuplicate   Class = 45
	VersionUnsupported Class = 46
	CommandInvalid     Class = 48
	HostConnect        Class = 49
	LockAcquire        Class = 50
	BackupMismatch     Class = 51
	FileMissing        Class = 55
	DBConnect          Class = 56
	DBQuery            Class = 57
	DBMismatch         Class = 58
	Stopped            Class = 62
	Terminated         Class = 63
	FeatureUnsupported Class = 67
	ArchiveCommand     Class = 68
	LinkExpected       Class = 69
	LinkDestination    Class = 70
	PathMissing        Class = 73
	BackupSetInvalid   Class = 75
	TablespaceMap      Class = 76
	LinkMap            Class = 78
	DBMissing          Class = 80
	DBInvalid          Class = 81
	ArchiveTimeout     Class = 82
	ArchiveDisabled    Class = 87
	FileExists         Class = 93
	Crypto             Class = 95
	ParamInvalid       Class = 96
	RepoInvalid        Class = 103
	CommandFailed      Class = 104
	Access             Class = 105
	Clock              Class = 106
	Runtime            Class = 122
)

// An Error is an error whose class is known.
type Error struct {
	Class Class
	Err   error
}

// Error says what is wrong; the class is for whoever prints it.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error of a class; %w keeps the cause.
func Errorf(c Class, format string, args ...any) error {
	return &Error{Class: c, Err: fmt.Errorf(format, args...)}
}

// ClassOf returns the class of the first error in the chain that has one.
func ClassOf(err error) Class {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Class
	case errors.Is(err, fs.ErrNotExist):
		return FileMissing
	}
	return Runtime
}
