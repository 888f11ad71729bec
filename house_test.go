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
		p.codes(t, codes)
	}
	rules, err := filepath.Glob("observe/alert/rules/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range rules { // an alert names its page
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`problem: ([a-z][\w-]*)`).FindAllStringSubmatch(string(text), -1) {
			codes[m[1]] = name
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

// codes collects the codes of the problem.Errors that p makes. They must be
// literals, because a person searches for them: in the problem itself, or in
// the call of a function of the package whose parameter is called code.
func (p *pkg) codes(t *testing.T, into map[string]string) {
	found := func(f *file, value ast.Expr) bool {
		lit, ok := value.(*ast.BasicLit)
		if ok {
			if code, err := strconv.Unquote(lit.Value); err == nil && into[code] == "" {
				into[code] = f.at(lit)
			}
		}
		return ok
	}
	makers := map[string]int{} // function -> which argument is the code
	for _, f := range p.files {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && !f.test {
				if i := slices.Index(parameters(fn), "code"); i >= 0 {
					makers[fn.Name.Name] = i
				}
			}
		}
	}
	for _, f := range p.files {
		if f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				name, _ := n.Fun.(*ast.Ident)
				if sel, ok := n.Fun.(*ast.SelectorExpr); ok {
					name = sel.Sel
				}
				if name == nil {
					break
				}
				if i, ok := makers[name.Name]; ok && i < len(n.Args) && !found(f, n.Args[i]) && !isCode(n.Args[i]) {
					t.Errorf("%s: the code of a problem must be a literal", f.at(n))
				}
			case *ast.CompositeLit:
				if !isProblem(n.Type) || len(n.Elts) == 0 {
					break
				}
				code := field(n, "Code")
				if code == nil {
					t.Errorf("%s: a problem without a code", f.at(n))
				} else if !found(f, code) && !isCode(code) {
					t.Errorf("%s: the code of a problem must be a literal", f.at(code))
				}
			}
			return true
		})
	}
}

// parameters are the names of fn's parameters, in order.
func parameters(fn *ast.FuncDecl) []string {
	var names []string
	for _, field := range fn.Type.Params.List {
		for _, name := range field.Names {
			names = append(names, name.Name)
		}
	}
	return names
}

// field is the value of the field called name in a literal.
func field(lit *ast.CompositeLit, name string) ast.Expr {
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok && key.Name == name {
				return kv.Value
			}
		}
	}
	return nil
}

// isCode says that e passes on a parameter called code.
func isCode(e ast.Expr) bool {
	name, ok := e.(*ast.Ident)
	return ok && name.Name == "code"
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

// A merge leaves no mark in what no compiler reads, and bash can read the scripts.
func TestNoMarksOfAMerge(t *testing.T) {
	marks := regexp.MustCompile(`(?m)^(<{7} |={7}$|>{7} )`)
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "scripts/*", "Makefile", ".ci/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				continue // a directory
			}
			if at := marks.FindString(string(text)); at != "" {
				t.Errorf("%s has a line %q", name, at)
			}
			if strings.HasPrefix(string(text), "#!/bin/bash") {
				if out, err := exec.CommandContext(t.Context(), "bash", "-n", name).CombinedOutput(); err != nil {
					t.Errorf("%s: %s", name, out)
				}
			}
		}
	}
}
