package pgbackrest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/backup"
	"howdah/backup/repo"
)

// Where pgBackRest looks for its configuration.
const (
	configDir  = "/etc/pgbackrest"
	configName = "pgbackrest.conf"
	oldConfig  = "/etc/pgbackrest.conf"
	includeDir = "conf.d"
)

// A command is a command line with the values of all options: from itself, the
// environment, the file's sections and the defaults, in this order.
type command struct {
	name    string
	async   bool // it was called NAME:async: it works ahead of the commands of that name
	args    []string
	options []string            // the options, as they were given
	values  map[string][]string // by full name: repo2-path
	given   map[string]string   // of the command line, environment or file, for who asks where from
	file    string              // of the configuration, "" if there is none
	warn    []string            // what a person should know
}

// commands are those that we have.
var commands = []string{
	"annotate", "archive-get", "archive-push", "backup", "check", "expire", "help", "info", "rekey", "restore",
	"stanza-create", "stanza-delete", "stanza-upgrade", "start", "stop", "verify", "version",
}

// asynchronous are those that others can work ahead of, in a process with this
// behind the command's name.
var asynchronous = []string{"archive-get", "archive-push"}

const asyncRole = ":async"

// refused are those that pgBackRest has and we do not.
var refused = map[string]string{
	"repo-ls": "list the directory itself", "repo-get": "read the file itself", "repo-put": "it is not documented by pgBackRest either",
	"repo-rm": "it is not documented by pgBackRest either", "repo-create": "it is not documented by pgBackRest either",
	"server": "pgBackRest's own protocol between hosts is not spoken", "server-ping": "pgBackRest's own protocol between hosts is not spoken",
	"manifest": "read backup.manifest itself",
}

// parse reads a command line, with the environment and the files it names.
func parse(args []string, environ []string) (command, error) {
	c := command{values: map[string][]string{}, given: map[string]string{}}
	reset := map[string]bool{}
	for i := 0; i < len(args); i++ {
		arg, at := args[i], i
		if !strings.HasPrefix(arg, "--") || arg == "--" {
			if strings.HasPrefix(arg, "-") && len(arg) > 1 && arg != "--" {
				return c, repo.Errorf(repo.OptionInvalid, "invalid option '%s'", arg)
			}
			if arg != "--" {
				c.take(arg)
			}
			continue
		}
		name, value, has := strings.Cut(arg[2:], "=")
		off := false
		if base, ok := strings.CutPrefix(name, "reset-"); ok && !has {
			reset[full(base)] = true
			c.options = append(c.options, arg)
			continue
		}
		if base, ok := strings.CutPrefix(name, "no-"); ok && !has {
			if b, _ := split(base); isYes(b) {
				name, off = base, true
			}
		}
		o, err := known(name)
		if err != nil {
			return c, err
		}
		switch {
		case o.secret:
			return c, repo.Errorf(repo.OptionInvalid, "option '%s' is not allowed on the command-line; this option could expose secrets in the process list; specify the option in a configuration file or an environment variable instead", name)
		case off:
			value = "n"
		case o.kind == yes && !has:
			value = "y"
		case !has:
			if i++; i == len(args) {
				return c, repo.Errorf(repo.OptionInvalid, "option '%s' requires an argument", name)
			}
			value = args[i]
		}
		if err := c.set(full(name), o, value, "command line"); err != nil {
			return c, err
		}
		c.options = append(c.options, args[at:i+1]...)
	}
	if base, ok := strings.CutSuffix(c.name, asyncRole); ok && slices.Contains(asynchronous, base) {
		c.name, c.async = base, true
	}
	if c.name == "" {
		c.name = "help"
	}
	if why, ok := refused[c.name]; ok {
		return c, repo.Errorf(repo.CommandInvalid, "command '%s' is not supported here: %s", c.name, why)
	}
	if !slices.Contains(commands, c.name) {
		return c, repo.Errorf(repo.CommandInvalid, "invalid command '%s'", c.name)
	}
	for name := range c.given {
		base, _ := split(name)
		if o, _ := find(base); o.of != "" && !slices.Contains(strings.Fields(o.of), c.name) {
			return c, repo.Errorf(repo.OptionInvalid, "option '%s' not valid for command '%s'", name, c.name)
		}
	}
	if c.name == "help" || c.name == "version" {
		return c, nil
	}
	if err := c.environment(environ, reset); err != nil {
		return c, err
	}
	if err := c.files(reset); err != nil {
		return c, err
	}
	return c, nil
}

// Open opens the repositories of a stanza that a configuration file leads to, to read
// what is in them.
func Open(file, stanza string, environ []string) ([]*backup.Stanza, error) {
	c, err := parse([]string{"--config=" + file, "--stanza=" + stanza, "archive-get"}, environ)
	if err != nil {
		return nil, err
	}
	keys, err := c.repos()
	if err != nil {
		return nil, err
	}
	return c.stanzas(keys, stanza)
}

func (c *command) take(arg string) {
	if c.name == "" {
		c.name = arg
		return
	}
	c.args = append(c.args, arg)
}

// full gives repo-path its number.
func full(name string) string {
	base, n := split(name)
	group, tail, _ := strings.Cut(base, "-")
	if n == 0 {
		return name
	}
	return group + strconv.Itoa(n) + "-" + tail
}

func isYes(base string) bool {
	o, ok := find(base)
	return ok && o.kind == yes
}

// known finds an option by its full name, and says what is wrong with one that we do not have.
func known(name string) (option, error) {
	base, _ := split(name)
	if o, ok := find(base); ok {
		return o, nil
	}
	for _, f := range families {
		if strings.HasPrefix(base, f.prefix) {
			return option{}, repo.Errorf(repo.FeatureUnsupported, "option '%s' is not supported here: %s", name, f.instead)
		}
	}
	return option{}, repo.Errorf(repo.OptionInvalid, "invalid option '--%s'", name)
}

// set notes a value. What came from a better source stays.
func (c *command) set(name string, o option, value, source string) error {
	if have, ok := c.given[name]; ok && have != source {
		return nil
	}
	if err := o.check(name, value); err != nil {
		return err
	}
	if c.given[name] == source && o.kind != list && o.kind != table {
		return repo.Errorf(repo.OptionInvalid, "option '%s' cannot be set multiple times", name)
	}
	c.given[name] = source
	c.values[name] = append(c.values[name], value)
	return nil
}

const envPrefix = "PGBACKREST_"

func (c *command) environment(environ []string, reset map[string]bool) error {
	for _, e := range environ {
		key, value, _ := strings.Cut(e, "=")
		key, ok := strings.CutPrefix(key, envPrefix)
		if !ok {
			continue
		}
		name := full(strings.ReplaceAll(strings.ToLower(key), "_", "-"))
		o, err := known(name)
		if repo.ClassOf(err) == repo.OptionInvalid {
			c.warn = append(c.warn, "environment contains invalid option '"+name+"'")
			continue
		}
		if err != nil {
			return err
		}
		if reset[name] || o.of != "" && !slices.Contains(strings.Fields(o.of), c.name) {
			continue
		}
		values := []string{value}
		if o.kind == list || o.kind == table {
			values = strings.Split(value, ":")
		}
		for _, v := range values {
			if err := c.set(name, o, v, "environment"); err != nil {
				return err
			}
		}
	}
	return nil
}

// A line is one of a configuration file.
type line struct{ section, key, value, at string }

// files reads the configuration.
func (c *command) files(reset map[string]bool) error {
	var lines []line
	dir := c.first("config-path", configDir)
	name, asked := c.values["config"]
	paths := []string{filepath.Join(dir, configName)}
	if asked {
		paths = name
	}
	if reset["config"] {
		paths = nil
	}
	for _, p := range paths {
		err := read(p, &lines)
		if errors.Is(err, fs.ErrNotExist) && !asked {
			if _, moved := c.values["config-path"]; !moved {
				if err = read(oldConfig, &lines); err == nil {
					p = oldConfig
				}
			}
		}
		switch {
		case err == nil:
			c.file = p
		case errors.Is(err, fs.ErrNotExist) && !asked:
		case errors.Is(err, fs.ErrNotExist):
			return repo.Errorf(repo.FileMissing, "unable to open missing file '%s' for read", p)
		default:
			return err
		}
	}
	include, asked := c.values["config-include-path"]
	if !asked {
		include = []string{filepath.Join(dir, includeDir)}
	}
	more, err := filepath.Glob(filepath.Join(include[0], "*.conf"))
	if err != nil {
		return err
	}
	slices.Sort(more)
	for _, p := range more {
		if err := read(p, &lines); err != nil {
			return err
		}
	}
	stanza := c.first("stanza", "")
	sections := []string{"global:" + c.name, "global"}
	if stanza != "" {
		sections = append([]string{stanza + ":" + c.name, stanza}, sections...)
	}
	for _, section := range sections {
		for _, l := range lines {
			if l.section != section {
				continue
			}
			if err := c.line(l, section, reset); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *command) line(l line, section string, reset map[string]bool) error {
	key, off := strings.CutPrefix(l.key, "no-")
	if base, _ := split(key); off && !isYes(base) {
		key, off = l.key, false
	}
	name := full(key)
	o, err := known(name)
	if repo.ClassOf(err) == repo.OptionInvalid {
		c.warn = append(c.warn, l.at+": configuration file contains invalid option '"+l.key+"'")
		return nil
	}
	if err == nil && (reset[name] || o.of != "" && !slices.Contains(strings.Fields(o.of), c.name)) {
		return nil
	}
	if err == nil {
		value := l.value
		if off {
			value = "n"
		}
		err = c.set(name, o, value, section)
	}
	if err != nil {
		return repo.Errorf(repo.ClassOf(err), "%s: %w", l.at, err)
	}
	return nil
}

// read appends the lines of a file.
func read(p string, into *[]line) error {
	data, err := os.ReadFile(p)
	if err != nil {
		return err
	}
	section := ""
	for n, text := range strings.Split(string(data), "\n") {
		text = strings.TrimSpace(text)
		at := p + ":" + strconv.Itoa(n+1)
		switch {
		case text == "" || text[0] == '#':
			continue
		case text[0] == '[' && text[len(text)-1] == ']':
			section = strings.TrimSpace(text[1 : len(text)-1])
			continue
		}
		key, value, ok := strings.Cut(text, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case !ok || key == "":
			return repo.Errorf(repo.Config, "%s: missing '=' in key/value: '%s'", at, text)
		case section == "":
			return repo.Errorf(repo.Config, "%s: key/value found outside of section", at)
		case value == "":
			return repo.Errorf(repo.OptionInvalidValue, "%s: section '%s', key '%s' must have a value", at, section, key)
		}
		*into = append(*into, line{section, key, value, at})
	}
	return nil
}

// first is the value of an option, or def.
func (c *command) first(name, def string) string {
	if v := c.values[name]; len(v) > 0 {
		return v[0]
	}
	return def
}

// text is the value of an option, or pgBackRest's default.
func (c *command) text(name string) string {
	base, _ := split(name)
	o, _ := find(base)
	return c.first(name, o.def)
}

func (c *command) has(name string) bool { return len(c.values[name]) > 0 }
func (c *command) yes(name string) bool { return c.text(name) == "y" }

func (c *command) number(name string) int {
	n, _ := strconv.Atoi(c.text(name))
	return n
}

func (c *command) bytes(name string) int64 {
	n, _ := parseSize(c.text(name))
	return n
}

func (c *command) time(name string) time.Duration {
	d, _ := parseDuration(c.text(name))
	return d
}

// pairs are the values of a table.
func (c *command) pairs(name string) map[string]string {
	all := map[string]string{}
	for _, v := range c.values[name] {
		key, value, _ := strings.Cut(v, "=")
		all[key] = value
	}
	return all
}

// need is the value of an option without which the command means nothing.
func (c *command) need(name string) (string, error) {
	if v := c.text(name); v != "" {
		return v, nil
	}
	return "", repo.Errorf(repo.OptionRequired, "%s command requires option: %s", c.name, name)
}

// numbers are those of the repositories, or of the one that is asked for.
func (c *command) repos() ([]int, error) {
	var all []int
	for name := range c.values {
		if base, n := split(name); strings.HasPrefix(base, "repo-") && !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	if len(all) == 0 {
		all = []int{1}
	}
	slices.Sort(all)
	if c.has("repo") {
		n := c.number("repo")
		if !slices.Contains(all, n) {
			return nil, repo.Errorf(repo.OptionInvalidValue, "'%d' is not a configured repository", n)
		}
		return []int{n}, nil
	}
	return all, nil
}
