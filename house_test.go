package howdah

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the path of this module.
const module = "howdah"

// A pkg is one directory of Go files.
type pkg struct {
	path    string   // relative to the module; "" is the root
	imports []string // of its files but the tests, sorted
	files   []*file
}

// A file is one Go file, whatever system it is built for.
type file struct {
	name string // relative to the module
	test bool
	fset *token.FileSet
	ast  *ast.File
}

// at is where n stands, for a message.
func (f *file) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", f.name, f.fset.Position(n.Pos()).Line)
}

// tree reads every package of the module, sorted by path.
func tree(t *testing.T) []*pkg {
	t.Helper()
	byPath := map[string]*pkg{}
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, own := os.Stat(filepath.Join(name, "go.mod"))
			if name != "." && (strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") || d.Name() == "testdata" || own == nil) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasPrefix(d.Name(), ".") {
			return nil
		}
		parsed, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		dir := strings.TrimPrefix(path.Dir(name), ".")
		p := byPath[dir]
		if p == nil {
			p = &pkg{path: dir}
			byPath[dir] = p
		}
		f := &file{name: name, test: strings.HasSuffix(name, "_test.go"), fset: fset, ast: parsed}
		p.files = append(p.files, f)
		if !f.test {
			p.imports = append(p.imports, f.imports()...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	packages := slices.SortedFunc(maps.Values(byPath), func(a, b *pkg) int { return cmp.Compare(a.path, b.path) })
	for _, p := range packages {
		slices.Sort(p.imports)
		p.imports = slices.Compact(p.imports)
	}
	return packages
}

func (f *file) imports() []string {
	var paths []string
	for _, spec := range f.ast.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// calls visits every use of a name of another package, like time.Now.
func (f *file) calls(visit func(n ast.Node, name string)) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Obj == nil {
				visit(n, x.Name+"."+s.Sel.Name)
			}
		}
		return true
	})
}

// Every package says once what it is for.
func TestPackageComments(t *testing.T) {
	for _, p := range tree(t) {
		var doc []*file
		for _, f := range p.files {
			if !f.test && f.ast.Doc != nil {
				doc = append(doc, f)
			}
		}
		switch {
		case p.path == "" || !slices.ContainsFunc(p.files, func(f *file) bool { return !f.test }):
		case len(doc) == 0:
			t.Errorf("package %s does not say what it is for", p.path)
		case len(doc) > 1:
			t.Errorf("package %s has two package comments: %s and %s", p.path, doc[0].name, doc[1].name)
		default:
			begin := "Package " + doc[0].ast.Name.Name + " "
			if doc[0].ast.Name.Name == "main" {
				begin = "Command " + path.Base(p.path) + " "
			}
			if !strings.HasPrefix(doc[0].ast.Doc.Text(), begin) {
				t.Errorf("%s: the package comment does not begin with %q", doc[0].name, begin)
			}
		}
	}
}

// Words and brains are pure: time, chance and the world come to them as facts.
func TestPure(t *testing.T) {
	clock := regexp.MustCompile(`^time\.(Now|Since|Until|Sleep|After|AfterFunc|Tick|NewTimer|NewTicker)$`)
	for _, p := range tree(t) {
		if !on(p.path, "words", "brains") {
			continue
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			f.calls(func(n ast.Node, name string) {
				if clock.MatchString(name) {
					t.Errorf("%s: %s under a pure package", f.at(n), name)
				}
			})
			ast.Inspect(f.ast, func(n ast.Node) bool {
				if g, ok := n.(*ast.GoStmt); ok {
					t.Errorf("%s: a goroutine under a pure package", f.at(g))
				}
				return true
			})
		}
	}
}

// Only main ends the process.
func TestOnlyMainExits(t *testing.T) {
	exit := regexp.MustCompile(`^(os\.Exit|log\.(Fatal|Panic)(f|ln)?)$`)
	for _, p := range tree(t) {
		for _, f := range p.files {
			if f.test || f.ast.Name.Name == "main" {
				continue
			}
			f.calls(func(n ast.Node, name string) {
				if exit.MatchString(name) {
					t.Errorf("%s: %s outside main; return an error", f.at(n), name)
				}
			})
		}
	}
}

// Tests wait for what they wait for. In a synctest bubble sleeping is free.
func TestNoSleep(t *testing.T) {
	for _, p := range tree(t) {
		if p.path == "test/chaos" {
			continue
		}
		for _, f := range p.files {
			if !f.test && !on(p.path, "tests") || slices.Contains(f.imports(), "testing/synctest") {
				continue
			}
			f.calls(func(n ast.Node, name string) {
				if name == "time.Sleep" {
					t.Errorf("%s: time.Sleep in a test; wait for the condition", f.at(n))
				}
			})
		}
	}
}

// A package is named after a thing that an operator knows.
func TestPackageNames(t *testing.T) {
	for _, p := range tree(t) {
		for dir := range strings.SplitSeq(p.path, "/") {
			switch dir {
			case "util", "utils", "common", "types", "helper", "helpers", "misc", "shared":
				t.Errorf("package %s: %q says nothing; name the noun", p.path, dir)
			}
		}
	}
}

// Every problem has its page, and every page its problem.
func TestProblemPages(t *testing.T) {
	text, err := os.ReadFile("docs/problems.md")
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^## (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		pages[m[1]] = true
	}
	codes := map[string]string{} // code -> where
	for _, p := range tree(t) {
		for _, f := range p.files {
			if !f.test {
				f.codes(t, codes)
			}
		}
	}
	shape := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		if !shape.MatchString(code) {
			t.Errorf("%s: code %q is not lower case with hyphens", codes[code], code)
		}
		if !pages[code] {
			t.Errorf("%s: problem %q has no page; add \"## %s\" to docs/problems.md: what it means, why, what to do", codes[code], code, code)
		}
	}
	for _, code := range slices.Sorted(maps.Keys(pages)) {
		if codes[code] == "" {
			t.Errorf("docs/problems.md: nothing reports %q any more; remove its page", code)
		}
	}
}

// codes collects the codes of the problem.Errors that f makes. They must be
// literals: a person searches for them.
func (f *file) codes(t *testing.T, into map[string]string) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok || !isProblem(lit.Type) || len(lit.Elts) == 0 {
			return true
		}
		for _, e := range lit.Elts {
			kv, ok := e.(*ast.KeyValueExpr)
			if !ok {
				t.Errorf("%s: name the fields of a problem", f.at(lit))
				return true
			}
			if key, ok := kv.Key.(*ast.Ident); !ok || key.Name != "Code" {
				continue
			}
			value, ok := kv.Value.(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: the code of a problem must be a literal", f.at(kv))
				return true
			}
			if code, err := strconv.Unquote(value.Value); err == nil && into[code] == "" {
				into[code] = f.at(kv)
			}
			return true
		}
		t.Errorf("%s: a problem without a code", f.at(lit))
		return true
	})
}

func isProblem(typ ast.Expr) bool {
	s, ok := typ.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != "Error" {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == "problem"
}

// fmt prints an unexported field without asking it how: a secret there leaks.
func TestSecretsInExportedFields(t *testing.T) {
	for _, p := range tree(t) {
		for _, f := range p.files {
			ast.Inspect(f.ast, func(n ast.Node) bool {
				s, ok := n.(*ast.StructType)
				if !ok || f.test {
					return true
				}
				for _, field := range s.Fields.List {
					if !mentionsSecret(field.Type) {
						continue
					}
					for _, name := range field.Names {
						if !name.IsExported() {
							t.Errorf("%s: secret in the unexported field %s, where %%v prints it; export it, or hold a function that gives it", f.at(name), name.Name)
						}
					}
				}
				return true
			})
		}
	}
}

// mentionsSecret says that typ holds a secret.Text, in a map or a slice or itself.
func mentionsSecret(typ ast.Expr) bool {
	switch typ := typ.(type) {
	case *ast.SelectorExpr:
		x, ok := typ.X.(*ast.Ident)
		return ok && x.Name == "secret" && typ.Sel.Name == "Text"
	case *ast.MapType:
		return mentionsSecret(typ.Key) || mentionsSecret(typ.Value)
	case *ast.ArrayType:
		return mentionsSecret(typ.Elt)
	case *ast.StarExpr:
		return mentionsSecret(typ.X)
	}
	return false
}

// A TODO names what would make it done.
func TestTodos(t *testing.T) {
	done := regexp.MustCompile(`\b(until|once|when|after)\b`)
	for _, p := range tree(t) {
		for _, f := range p.files {
			for _, group := range f.ast.Comments {
				if text := group.Text(); strings.Contains(text, "TODO") && !strings.Contains(text, "A TODO names") && !done.MatchString(text) {
					t.Errorf("%s: a TODO names what would make it done (until …, once …)", f.at(group))
				}
			}
		}
	}
}

// The tree is formatted.
func TestFormat(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "tool", "gofumpt", "-l", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("gofumpt: %v\n%s", err, out)
	}
	if len(out) > 0 {
		t.Errorf("not formatted; run go tool gofumpt -w .\n%s", out)
	}
}
