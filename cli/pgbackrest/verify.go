package pgbackrest

import (
	"context"
	"fmt"
	"io"
	"strings"

	"howdah/backup"
	"howdah/backup/repo"
)

// verify prints what pgBackRest's verify prints, and further lines for what
// that does not find. Other than that, it ends with a code that is not zero if
// anything was found.
func (c *command) verify(ctx context.Context, d backup.Desk, p Process) error {
	output := c.first("output", "none")
	if output != "none" && output != "text" {
		return repo.Errorf(repo.OptionInvalidValue, "'%s' is not allowed for 'output' option", output)
	}
	reports, err := d.Verify(ctx, backup.Verify{Workers: c.number("process-max"), Set: c.text("set")})
	if err != nil {
		return err
	}
	good := true
	for _, r := range reports {
		if good = good && r.Good(); output == "text" || !r.Good() {
			print(p.Out, r, c.yes("verbose"))
		}
	}
	if !good && !c.yes("compat-exit") {
		return errFound
	}
	return nil
}

func print(w io.Writer, r backup.Report, verbose bool) {
	status := "ok"
	if !r.Good() {
		status = "error"
	}
	fmt.Fprintf(w, "stanza: %s\nstatus: %s\n", r.Stanza, status)
	for _, e := range r.Errors {
		fmt.Fprintf(w, "  %s\n", e)
	}
	if len(r.Archives) == 0 {
		fmt.Fprintln(w, "  archiveId: none found")
	}
	for _, a := range r.Archives {
		if verbose || !a.WAL.Good() || len(a.Holes) > 0 {
			fmt.Fprintf(w, "  archiveId: %s, total WAL checked: %d, total valid WAL: %d\n", a.ID, a.WAL.Total, a.WAL.Valid)
			fmt.Fprintf(w, "    missing: %d, checksum invalid: %d, size invalid: %d, other: %d\n", a.WAL.Missing, a.WAL.Checksum, a.WAL.Size, a.WAL.Other)
		}
		for _, h := range a.Holes {
			fmt.Fprintf(w, "    WAL is missing between %s and %s", h.After, h.Before)
			if h.Costs != "" {
				fmt.Fprintf(w, ": %s", h.Costs)
			}
			fmt.Fprintln(w)
			for _, k := range h.Known {
				fmt.Fprintf(w, "      recorded: %s", k)
				if k.Backup != "" {
					fmt.Fprintf(w, "; backup %s was made after it", k.Backup)
				}
				fmt.Fprintln(w)
			}
		}
	}
	if len(r.Backups) == 0 {
		fmt.Fprintln(w, "  backup: none found")
	}
	for _, b := range r.Backups {
		if verbose || b.Status != "valid" {
			fmt.Fprintf(w, "  backup: %s, status: %s, total files checked: %d, total valid files: %d\n", b.Label, b.Status, b.Files.Total, b.Files.Valid)
			fmt.Fprintf(w, "    missing: %d, checksum invalid: %d, size invalid: %d, other: %d\n", b.Files.Missing, b.Files.Checksum, b.Files.Size, b.Files.Other)
		}
		if len(b.Lacks) > 0 {
			fmt.Fprintf(w, "    it can not be restored: WAL is missing: %s\n", strings.Join(b.Lacks, ", "))
		}
	}
}
