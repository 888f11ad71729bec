package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"howdah/problem"
)

// A File is what is to be at a path.
type File struct {
	Path string
	Mode fs.FileMode
	Sum  string // SHA-256, in hexadecimal digits
}

// Put makes content the file f, as a whole: it is written aside, its checksum is
// compared there, and only then it takes the place of what was there before, whose
// owner it keeps. A connection that is cut leaves the old file.
func (m *Machine) Put(ctx context.Context, f File, content io.Reader) error {
	_, err := m.Run(ctx, f.script(), content)
	if failed, ok := errors.AsType[*Failed](err); ok {
		return &problem.Error{
			Code: "copy-failed", What: "cannot copy " + f.Path + " to " + m.String(), Why: failed.Error(),
			Do: "see that there is room, and that the file system can be written; what was there before is as it was",
		}
	}
	return err
}

// script takes the content from its stdin. What a predecessor that was killed has
// left behind goes first.
func (f File) script() string {
	return fmt.Sprintf(`set -e
p=%s
d=$(dirname "$p")
(umask 022; mkdir -p "$d")
rm -f "$p".new.*
umask 077
t=$(mktemp "$p.new.XXXXXX")
trap 'rm -f "$t"' EXIT
trap 'exit 1' HUP INT TERM
cat >"$t"
s=$(sha256sum <"$t")
[ "${s%%%% *}" = %s ] || { echo "what arrived is not what was sent" >&2; exit 1; }
[ ! -e "$p" ] || chown --reference="$p" "$t"
chmod %04o "$t"
sync "$t"
mv -f "$t" "$p"
trap - EXIT
sync "$d"
`, Quote(f.Path), Quote(f.Sum), f.Mode.Perm())
}
