package pgbackrest

import (
	"context"
	"slices"
	"strings"

	"howdah/backup"
	"howdah/backup/repo"
)

// types of restore that aim at something that must be told.
var aimed = []string{"lsn", "name", "time", "xid"}

func (c *command) restore(ctx context.Context, d backup.Desk, p Process) error {
	r := backup.Restore{
		Set: c.text("set"), Type: "default", Target: c.text("target"), Exclusive: c.yes("target-exclusive"),
		Action: c.text("target-action"), Timeline: c.text("target-timeline"), NoArchive: c.text("archive-mode") == "off",
		Options: c.pairs("recovery-option"), Delta: c.yes("delta"), Force: c.yes("force"), Workers: c.number("process-max"),
		LinkAll: c.yes("link-all"), Links: c.pairs("link-map"), Spaces: c.pairs("tablespace-map"), SpacesAll: c.text("tablespace-map-all"),
		Include: c.values["db-include"], Exclude: c.values["db-exclude"],
	}
	if r.Set == "latest" {
		r.Set = ""
	}
	if c.has("type") {
		r.Type = c.text("type")
	}
	if !slices.Contains([]string{"default", "immediate", "lsn", "name", "none", "preserve", "standby", "time", "xid"}, r.Type) {
		return repo.Errorf(repo.OptionInvalidValue, "'%s' is not allowed for 'type' option", r.Type)
	}
	aims := slices.Contains(aimed, r.Type)
	switch {
	case aims && r.Target == "":
		return repo.Errorf(repo.OptionRequired, "restore command requires option: target; --type=%s needs one", r.Type)
	case !aims && r.Target != "":
		return repo.Errorf(repo.OptionInvalid, "option 'target' not valid without option 'type' in ('lsn', 'name', 'time', 'xid')")
	case r.Exclusive && (!aims || r.Type == "name"):
		return repo.Errorf(repo.OptionInvalid, "option 'target-exclusive' not valid without option 'type' in ('lsn', 'time', 'xid')")
	case !slices.Contains([]string{"pause", "promote", "shutdown"}, r.Action):
		return repo.Errorf(repo.OptionInvalidValue, "'%s' is not allowed for 'target-action' option", r.Action)
	case c.has("target-action") && !aims && r.Type != "immediate":
		return repo.Errorf(repo.OptionInvalid, "option 'target-action' not valid without option 'type' in ('immediate', 'lsn', 'name', 'time', 'xid')")
	}
	r.Command = c.restoreCommand(p)
	if _, err := d.Restore(ctx, r); err != nil {
		return err
	}
	// What was fetched ahead of, or noted for, the server that was here.
	return backup.SpoolOf(c.text("spool-path"), d.Stanza).Remove()
}

// restoreCommand is how PostgreSQL asks for WAL: with the options that this
// command line had and the file has not.
func (c *command) restoreCommand(p Process) string {
	words := executable(p)
	for _, name := range sorted(c.given) {
		base, _ := split(name)
		o, _ := find(base)
		if c.given[name] != "command line" || o.of != "" && !slices.Contains(strings.Fields(o.of), "archive-get") || base == "stanza" || base == "repo" {
			continue
		}
		for _, v := range c.values[name] {
			words = append(words, quoted("--"+name+"="+v))
		}
	}
	return strings.Join(append(words, "--stanza="+c.text("stanza"), "archive-get", "%f", `"%p"`), " ")
}

// quoted makes one word for a shell of whatever has a space in it.
func quoted(word string) string {
	if strings.ContainsAny(word, " \t\"'$\\") {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`).Replace(word) + `"`
	}
	return word
}
