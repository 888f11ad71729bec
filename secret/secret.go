// Package secret keeps passwords out of logs, errors, metrics and JSON.
package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// A Text is a secret: every way of printing it gives three stars. Only Reveal
// gives it away, so a search for Reveal finds every place where a secret leaves.
// A struct field that holds one must be exported: fmt prints what is unexported
// without asking it how (house_test.go looks for such fields).
type Text string

const mask = "***"

// Reveal returns the secret itself.
func (t Text) Reveal() string { return string(t) }

// Format masks the secret under every verb of fmt, %d and %#v included.
func (t Text) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, mask) }

// String masks the secret.
func (t Text) String() string { return mask }

// LogValue masks the secret in slog.
func (t Text) LogValue() slog.Value { return slog.StringValue(mask) }

// MarshalText masks the secret in JSON and YAML.
func (t Text) MarshalText() ([]byte, error) { return []byte(mask), nil }
