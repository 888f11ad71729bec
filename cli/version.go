package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"howdah/pg"
)

// A Version says what this program was built from.
type Version struct {
	Version  string `json:"version"` // the release, or Go's pseudo-version of the commit
	Commit   string `json:"commit,omitempty"`
	At       string `json:"commit_time,omitempty"`
	Modified bool   `json:"modified"` // by what was not committed
	Go       string `json:"go,omitempty"`
	Platform string `json:"platform,omitempty"`
	Etcd     string `json:"etcd,omitempty"` // that is embedded
}

func (a *app) version() *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "The version of this program, and of what it runs",
		Long:    "Version says what this program was built from, and which versions of PostgreSQL it runs.",
		Example: "  howdah version\n  howdah version --json | jq -r .commit",
		Args:    nothing(""),
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				a.printJSON(a.Out, struct {
					Version
					Postgres []int `json:"postgres"`
				}{a.Version, majors()})
			} else {
				a.printf("%s", a.Version.text())
			}
			return nil
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

// majors are the versions of PostgreSQL that are supported.
func majors() []int {
	var all []int
	for m := pg.OldestMajor; m <= pg.NewestMajor; m++ {
		all = append(all, m)
	}
	return all
}

func (v Version) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "howdah %s\n", v.Version)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-11s %s\n", name, value)
		}
	}
	commit := v.Commit
	if v.At != "" {
		commit += " of " + v.At
	}
	if v.Modified {
		commit += ", modified"
	}
	line("commit", commit)
	line("PostgreSQL", fmt.Sprintf("%d to %d", pg.OldestMajor, pg.NewestMajor))
	line("etcd", v.Etcd)
	line("Go", strings.TrimSpace(v.Go+" "+v.Platform))
	return b.String()
}
