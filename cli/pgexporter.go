package cli

import (
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"howdah/problem"
)

// An Exporter is what pg_exporter's flags and variables ask for.
type Exporter struct {
	URL, Config      string
	Labels           [][2]string
	Tags             []string
	NoCache, NoIntro bool
	Discover         bool
	Exclude, Include []string
	Namespace        string
	FailFast         bool
	Connect          time.Duration
	Listen, Path     string
	DryRun, Explain  bool
	Level, Format    string
}

// pgExporterName is the name under which this program is pg_exporter.
const pgExporterName = "pg_exporter"

// called puts the verb before args if the program was called by the name of a
// program that it replaces.
func called(name string, args []string) []string {
	if filepath.Base(name) == pgExporterName {
		return append([]string{pgExporterName}, args...)
	}
	return args
}

// pgExporter is pg_exporter: its flags, its variables, its file.
func (a *app) pgExporter() *cobra.Command {
	var o Exporter
	var labels, tags, exclude, include, web string
	var connect int
	cmd := &cobra.Command{
		Use: pgExporterName, Short: "Metrics of one PostgreSQL server by pg_exporter's collectors",
		Long: `Pg_exporter serves the metrics of a server, or of PgBouncer's admin console, for
Prometheus. Its flags, its environment variables (PG_EXPORTER_URL, …), its paths
and its files of collectors are those of the program of that name, which this
one also is when it is called so. "--config shipped" takes the collectors that
come with Howdah.`,
		Example: `  howdah pg_exporter --config pg_exporter.yml --url 'postgres://monitor@10.10.10.11/postgres'
  PG_EXPORTER_URL='host=/run/postgresql' howdah pg_exporter --config shipped --explain`,
		Args: nothing(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.exporterVariables(cmd); err != nil {
				return err
			}
			if web != "" {
				return &problem.Error{
					Code: "exporter-unsupported", What: "cannot serve with --web.config.file " + web,
					Why: "TLS and passwords of the exporter's own port are not built",
					Do:  "leave it out, and put a proxy that speaks TLS before the exporter if it must",
				}
			}
			for _, pair := range words(labels) {
				name, value, ok := strings.Cut(pair, "=")
				if !ok {
					return usage("--label takes name=value,…, not %q", pair)
				}
				o.Labels = append(o.Labels, [2]string{strings.TrimSpace(name), strings.TrimSpace(value)})
			}
			o.Tags, o.Exclude, o.Include = words(tags), words(exclude), words(include)
			o.Connect = time.Duration(connect) * time.Millisecond
			return a.Roles.PgExporter(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.URL, "url", "u", "", "how to connect (default postgresql:///?sslmode=disable)")
	f.StringVarP(&o.Config, "config", "c", "", `file of collectors, a directory of files, or "shipped"`)
	f.StringVarP(&labels, "label", "l", "", "labels of every series, name=value,…")
	f.StringVarP(&tags, "tag", "t", "", "tags that choose collectors")
	f.BoolVarP(&o.NoCache, "disable-cache", "C", false, "ask anew at every scrape")
	f.BoolVarP(&o.NoIntro, "disable-intro", "m", false, "say nothing of the exporter itself")
	f.BoolVarP(&o.Discover, "auto-discovery", "a", true, "scrape every database of the server")
	f.StringVarP(&exclude, "exclude-database", "x", "template0,template1,postgres", "databases left out of that")
	f.StringVarP(&include, "include-database", "i", "", "the only databases of that")
	f.StringVarP(&o.Namespace, "namespace", "n", "", "prefix of what the exporter says of itself: pg, pgbouncer")
	f.BoolVarP(&o.FailFast, "fail-fast", "f", false, "end at once if the server can not be reached")
	f.IntVarP(&connect, "connect-timeout", "T", 100, "milliseconds to connect")
	f.StringVarP(&o.Listen, "web.listen-address", "L", ":9630", "where to serve")
	f.StringVarP(&o.Path, "web.telemetry-path", "P", "/metrics", "path of the metrics")
	f.StringVar(&web, "web.config.file", "", "TLS and passwords of the port: not built, and refused")
	f.BoolVarP(&o.DryRun, "dry-run", "D", false, "print the collectors, and end")
	f.BoolVarP(&o.Explain, "explain", "E", false, "print which collectors apply to the server, and end")
	f.StringVar(&o.Level, "log.level", "info", "debug, info, warn or error")
	f.StringVar(&o.Format, "log.format", "logfmt", "logfmt or json")
	_ = cmd.MarkFlagFilename("config", "yml", "yaml") // the flag was just made
	// The incumbent's library of flags has a --no- for each that is true or false.
	for _, name := range []string{"disable-cache", "disable-intro", "auto-discovery", "fail-fast", "dry-run", "explain"} {
		flag := f.Lookup(name)
		f.VarPF(negation{flag.Value.Set}, "no-"+name, "", "not --"+name).NoOptDefVal = "true"
		f.Lookup("no-" + name).Hidden = true
	}
	return cmd
}

// negation sets another flag to the opposite.
type negation struct{ set func(string) error }

func (n negation) String() string { return "" }
func (n negation) Type() string   { return "bool" }
func (n negation) Set(s string) error {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return err
	}
	return n.set(strconv.FormatBool(!b))
}

// exporterVariables gives flags that were not set the values of their variables.
func (a *app) exporterVariables(cmd *cobra.Command) error {
	for flag, variable := range map[string]string{
		"url": "URL", "config": "CONFIG", "label": "LABEL", "tag": "TAG", "disable-cache": "DISABLE_CACHE",
		"disable-intro": "DISABLE_INTRO", "auto-discovery": "AUTO_DISCOVERY", "exclude-database": "EXCLUDE_DATABASE",
		"include-database": "INCLUDE_DATABASE", "namespace": "NAMESPACE", "fail-fast": "FAIL_FAST",
		"connect-timeout": "CONNECT_TIMEOUT", "web.listen-address": "LISTEN_ADDRESS", "web.telemetry-path": "TELEMETRY_PATH",
	} {
		value := a.Env("PG_EXPORTER_" + variable)
		if value == "" || cmd.Flags().Changed(flag) || cmd.Flags().Lookup("no-"+flag) != nil && cmd.Flags().Changed("no-"+flag) {
			continue
		}
		if err := cmd.Flags().Set(flag, value); err != nil {
			return usage("PG_EXPORTER_%s=%s: %v", variable, value, err)
		}
	}
	return nil
}

func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}
