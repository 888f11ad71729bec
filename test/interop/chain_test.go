package interop

import (
	"fmt"
	"strings"
	"testing"
)

// A chain of backups is made by both programs in turn. After each link both
// say the same of the repository, find nothing wrong in it, and restore it.
func TestChains(t *testing.T) {
	both := map[string]string{"ours": ours, "theirs": theirs}
	type chain struct {
		setting
		by []string
	}
	chains := []chain{
		{setting{compress: "zst"}, []string{"ours", "theirs", "ours"}},
		{setting{compress: "lz4", cipher: "it's a secret", bundle: true, archiver: theirs}, []string{"theirs", "ours", "theirs"}},
	}
	if *wide {
		chains = nil
		for _, compress := range []string{"none", "gz", "lz4", "zst"} {
			for _, cipher := range []string{"", "topsecret"} {
				for _, bundle := range []bool{false, true} {
					for first, archiver := range []string{ours, theirs} {
						by := []string{"ours", "theirs", "ours"}
						if first == 1 {
							by = []string{"theirs", "ours", "theirs"}
						}
						chains = append(chains, chain{setting{compress: compress, cipher: cipher, bundle: bundle, archiver: archiver}, by})
					}
				}
			}
		}
	}
	for _, c := range chains {
		name := fmt.Sprintf("%s_cipher=%t_bundle=%t_%s", c.compress, c.cipher != "", c.bundle, strings.Join(c.by, "-"))
		t.Run(name, func(t *testing.T) {
			l := newLab(t, c.setting)
			l.with(both[c.by[0]], "stanza-create")
			l.with(both[c.by[1]], "stanza-create") // there already: nothing to do
			l.with(ours, "check")
			l.with(theirs, "check")
			l.fill()
			for i, by := range c.by {
				l.grow()
				l.with(both[by], "--type="+[]string{"full", "incr", "diff"}[i], "--annotation=by="+by, "--process-max=2", "backup")
				l.sameInfo()
				l.clean()
			}
			want := l.grow()
			l.archived()
			for name, program := range both {
				r := l.restore(program)
				if got := r.query(rows); got != want {
					t.Errorf("restored by %s: %s, want %s", name, got, want)
				}
			}
		})
	}
}

// sameInfo asks both programs what there is.
func (l *lab) sameInfo() {
	l.Helper()
	for _, args := range [][]string{{"info", "--output=json"}, {"info"}} {
		if a, b := l.with(ours, args...), l.with(theirs, args...); a != b {
			l.Errorf("%v\nours   %s\ntheirs %s", args, a, b)
		}
	}
}

// clean says that neither program finds anything wrong.
func (l *lab) clean() {
	l.Helper()
	verify := []string{"verify", "--output=text", "--verbose"}
	a, b := l.with(ours, verify...), l.with(theirs, verify...)
	for _, out := range []string{a, b} {
		if !strings.Contains(out, "status: ok") || strings.Contains(out, "status: invalid") {
			l.Errorf("verify:\n%s", out)
		}
	}
	if a != b {
		l.Errorf("verify\nours\n%s\ntheirs\n%s", a, b)
	}
}
