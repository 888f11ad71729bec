package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"howdah/cluster"
	"howdah/control"
)

func (a *app) showConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show-config [CLUSTER]", Short: "The dynamic configuration",
		Long:    `Show-config prints what every member obeys besides its own description.`,
		Example: `  howdah show-config`,
		Args:    takes(0), ValidArgsFunction: a.completeCluster,
		RunE: a.on(func(cmd *cobra.Command, c *control.Cluster) error {
			config, err := c.Config(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(a.Out, config.Data)
			} else {
				a.printf("%s", asYAML(config.Data))
			}
			return nil
		}),
	}
	a.jsonFlag(cmd)
	return cmd
}

// An edit is how the configuration is to change.
type edit struct {
	set, pg        []string // k=v
	apply, replace string   // files; "-" is standard input
}

func (a *app) editConfig() *cobra.Command {
	var e edit
	cmd := &cobra.Command{
		Use: "edit-config [CLUSTER]", Short: "Change the dynamic configuration",
		Long: `Edit-config changes what every member obeys: in an editor, or by what is given.
Values are YAML, and null takes a key away. Below postgresql.parameters a name
may have dots. It shows what would change before it asks, and puts it only over
the configuration that it has shown.`,
		Example: `  howdah edit-config
  howdah edit-config --pg work_mem=8MB --pg max_connections=200
  howdah edit-config --set maximum_lag_on_failover=33554432 --yes
  howdah edit-config --replace config.yml`,
		Args: takes(0), ValidArgsFunction: a.completeCluster,
		RunE: func(cmd *cobra.Command, args []string) error {
			if e.apply != "" && e.replace != "" {
				return usage("--apply and --replace exclude each other")
			}
			c, _, err := a.open(args, 0)
			if err != nil {
				return err
			}
			defer c.Close()
			config, err := c.Config(cmd.Context())
			if err != nil {
				return err
			}
			next, err := a.edited(config, e)
			if err != nil {
				return err
			}
			return a.putConfig(cmd, c, config, next)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&e.set, "set", "s", nil, "KEY=VALUE, with dots between the keys")
	f.StringArrayVarP(&e.pg, "pg", "p", nil, "NAME=VALUE of a PostgreSQL parameter")
	f.StringVar(&e.apply, "apply", "", "merge the YAML in this file (-: standard input)")
	f.StringVar(&e.replace, "replace", "", "put the YAML in this file in place of everything (-: standard input)")
	a.changeFlags(cmd)
	return cmd
}

// putConfig shows the difference, asks and puts.
func (a *app) putConfig(cmd *cobra.Command, c *control.Cluster, config cluster.Config, next map[string]any) error {
	before, after := asYAML(config.Data), asYAML(next)
	changed := before != after
	if changed && !a.json {
		a.printf("%s", difference(before, after))
	}
	switch {
	case !changed:
	default:
		if ok, err := a.sure("change the configuration of cluster "+c.Name, harmless); !ok {
			return err
		}
		if _, err := c.PutConfig(cmd.Context(), next, config.Mod); err != nil {
			return err
		}
	}
	switch {
	case a.json:
		a.printJSON(a.Out, map[string]any{"cluster": c.Name, "changed": changed, "config": next})
	case changed:
		a.printf("configuration changed\n")
	default:
		a.printf("not changed\n")
	}
	return nil
}

// edited is the configuration after e.
func (a *app) edited(config cluster.Config, e edit) (map[string]any, error) {
	next := config.Data
	merge := func(patch map[string]any) { next, _ = cluster.Config{Data: next}.Patched(patch) }
	if e.set == nil && e.pg == nil && e.apply == "" && e.replace == "" {
		return a.inEditor(config.Data)
	}
	if file := e.apply + e.replace; file != "" {
		text, err := a.readFile(file)
		if err != nil {
			return nil, err
		}
		data, err := fromYAML(file, text)
		if err != nil {
			return nil, err
		}
		if e.replace != "" {
			next = data
		} else {
			merge(data)
		}
	}
	for _, s := range e.set {
		patch, err := setting(nil, s)
		if err != nil {
			return nil, err
		}
		merge(patch)
	}
	for _, s := range e.pg {
		patch, err := setting([]string{"postgresql", "parameters"}, s)
		if err != nil {
			return nil, err
		}
		merge(patch)
	}
	return next, nil
}

// setting reads KEY=VALUE below a path.
func setting(below []string, text string) (map[string]any, error) {
	key, value, ok := strings.Cut(text, "=")
	if key = strings.TrimSpace(key); !ok || key == "" {
		return nil, usage("%q is not KEY=VALUE", text)
	}
	const parameters = "postgresql.parameters."
	path := append([]string(nil), below...)
	switch name, isParameter := strings.CutPrefix(key, parameters); {
	case below != nil:
		path = append(path, key)
	case isParameter:
		path = []string{"postgresql", "parameters", name}
	default:
		path = strings.Split(key, ".")
	}
	var v any
	if err := yaml.Unmarshal([]byte(value), &v); err != nil {
		return nil, usage("the value of %s is not YAML: %w", key, err)
	}
	v, err := plain(v)
	if err != nil {
		return nil, usage("the value of %s: %w", key, err)
	}
	for i := len(path) - 1; i >= 0; i-- {
		v = map[string]any{path[i]: v}
	}
	return v.(map[string]any), nil
}

func (a *app) readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(a.In)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, usage("%w", err)
	}
	return text, nil
}

// inEditor has a person change the configuration.
func (a *app) inEditor(data map[string]any) (map[string]any, error) {
	editor := a.Env("VISUAL")
	if editor == "" {
		editor = a.Env("EDITOR")
	}
	switch {
	case !a.Terminal:
		return nil, usage("there is no terminal for an editor: say what to change with --set, --pg, --apply or --replace")
	case editor == "":
		editor = "vi"
	}
	f, err := os.CreateTemp("", "howdah-config-*.yml")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	if _, err := f.WriteString(asYAML(data)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	argv := append(strings.Fields(editor), f.Name())
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("editor %s: %w", editor, err)
	}
	text, err := os.ReadFile(f.Name())
	if err != nil {
		return nil, err
	}
	return fromYAML(f.Name(), text)
}

// fromYAML reads an object.
func fromYAML(name string, text []byte) (map[string]any, error) {
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		return nil, usage("%s is not YAML: %w", name, err)
	}
	v, err := plain(v)
	if err != nil {
		return nil, usage("%s: %w", name, err)
	}
	data, ok := v.(map[string]any)
	if !ok {
		return nil, usage("%s does not hold a mapping", name)
	}
	return data, nil
}

// plain turns what YAML gives into what JSON gives.
func plain(v any) (any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, errors.New("it can not be written as JSON: are all keys text?")
	}
	var out any
	err = json.Unmarshal(text, &out)
	return out, err
}

// asYAML writes JSON's values; whole numbers without an exponent.
func asYAML(data map[string]any) string {
	var b strings.Builder
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(whole(data)); err != nil {
		return fmt.Sprintf("%v\n", data) // JSON's values can all be written
	}
	return b.String()
}

func whole(v any) any {
	switch v := v.(type) {
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v)
		}
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, inner := range v {
			out[k] = whole(inner)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, inner := range v {
			out[i] = whole(inner)
		}
		return out
	}
	return v
}

// difference marks the lines that go with - and those that come with +; the
// others stay around them. A configuration is a page, so all of it is shown.
func difference(before, after string) string {
	a, b := strings.SplitAfter(before, "\n"), strings.SplitAfter(after, "\n")
	// longest[i][j] is the length of the longest common sequence of a[i:] and b[j:].
	longest := make([][]int, len(a)+1)
	for i := range longest {
		longest[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	var out strings.Builder
	line := func(mark, text string) {
		if text != "" {
			out.WriteString(mark + strings.TrimSuffix(text, "\n") + "\n")
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			line(" ", a[i])
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && longest[i+1][j] >= longest[i][j+1]:
			line("-", a[i])
			i++
		default:
			line("+", b[j])
			j++
		}
	}
	return out.String()
}
