package notice

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Letter is the message as mail from us at now (RFC 5322): what fires, with the
// numbers in it and the entry that has the remedy.
func (m Message) Letter(mail Mail, source string, now time.Time) []byte {
	var b strings.Builder
	firing := 0
	for _, a := range m.Alerts {
		if a.Ends.IsZero() {
			firing++
		}
	}
	subject := "[RESOLVED]"
	if firing > 0 {
		subject = fmt.Sprintf("[FIRING:%d]", firing)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Labels)) {
		subject += " " + m.Labels[name]
	}
	_, domain, _ := strings.Cut(mail.From, "@")
	header := func(name, value string) { b.WriteString(name + ": " + value + "\r\n") }
	header("From", mail.From)
	header("To", strings.Join(mail.To, ", "))
	header("Subject", encoded(subject))
	header("Date", now.Format(time.RFC1123Z))
	header("Message-ID", fmt.Sprintf("<%s.%d@%s>", Alert{Labels: m.Labels}.fingerprint(), now.UnixNano(), domain))
	header("Auto-Submitted", "auto-generated") // no answers of those on holiday (RFC 3834)
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "base64")
	b.WriteString("\r\n")
	text := base64.StdEncoding.EncodeToString([]byte(m.text(source)))
	const width = 76
	for len(text) > width {
		b.WriteString(text[:width] + "\r\n")
		text = text[width:]
	}
	b.WriteString(text + "\r\n")
	return []byte(b.String())
}

// text is the message as a person reads it.
func (m Message) text(source string) string {
	var b strings.Builder
	for _, a := range m.Alerts {
		state := "FIRING"
		if !a.Ends.IsZero() {
			state = "RESOLVED"
		}
		b.WriteString(strings.TrimSpace(fmt.Sprintf("%s %s %s", state, a.Labels["severity"], a.Labels["alertname"])) + "\r\n")
		for _, name := range []string{"summary", "description"} {
			if v := a.Annotations[name]; v != "" {
				b.WriteString("  " + strings.ReplaceAll(v, "\n", "\r\n  ") + "\r\n")
			}
		}
		b.WriteString("  since " + a.Starts.UTC().Format("2006-01-02 15:04:05 UTC"))
		if !a.Ends.IsZero() {
			b.WriteString(", until " + a.Ends.UTC().Format("2006-01-02 15:04:05 UTC"))
		}
		b.WriteString("\r\n ")
		for _, name := range slices.Sorted(maps.Keys(a.Labels)) {
			if name != "alertname" && name != "severity" {
				b.WriteString(" " + name + "=" + a.Labels[name])
			}
		}
		b.WriteString("\r\n\r\n")
	}
	b.WriteString(source + "\r\n")
	return b.String()
}

// encoded is a header's text as mail carries it (RFC 2047).
func encoded(s string) string {
	s = strings.Join(strings.Fields(s), " ") // and no other header within it
	if strings.IndexFunc(s, func(c rune) bool { return c < ' ' || c > '~' }) < 0 {
		return s
	}
	const most = 45 // bytes of a word, so that encoded it has no more than 75
	var words []string
	for s != "" {
		n := 0
		for n < len(s) {
			_, size := utf8.DecodeRuneInString(s[n:])
			if n+size > most {
				break
			}
			n += size
		}
		words, s = append(words, "=?utf-8?b?"+base64.StdEncoding.EncodeToString([]byte(s[:n]))+"?="), s[n:]
	}
	return strings.Join(words, "\r\n ")
}
