package lint

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
)

//lint:file-ignore SA1019 ast.Object is deprecated because composite literals deceive it; keys of literals are not written to, and go/types would cost seconds.

// maxLines is where a file is asked for its second noun.
const maxLines = 800

// Names that say nothing about what a package knows.
var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "types", "base", "misc", "shared"}

// Modules that belong to tests/go.mod: foreign clients and oracles.
var foreign = []string{"github.com/twmb/", "github.com/IBM/sarama", "github.com/stretchr/", "github.com/golang/mock", "go.uber.org/mock"}

// todo is a promise; it has to name its issue.
var (
	todo      = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)
	todoIssue = regexp.MustCompile(`\bTODO\(#\d+\)`)
)

// checkPackages checks package comments and names.
func checkPackages(t *Tree) (found []Finding) {
	for dir, p := range t.Packages {
		documented, onlyTests := false, true
		for _, f := range p.Files {
			documented = documented || f.AST.Doc != nil
			onlyTests = onlyTests && f.Test
		}
		if !documented && !onlyTests {
			found = append(found, Finding{"doc", dir, 0, "has no package comment"})
		}
		if slices.Contains(emptyNames, path.Base(dir)) {
			found = append(found, Finding{"name", dir, 0, "has a name that says nothing"})
		}
	}
	return found
}

// checkFiles checks what one file shows by itself.
func checkFiles(t *Tree) (found []Finding) {
	for _, p := range t.Packages {
		for _, f := range p.Files {
			found = append(found, checkForeign(f)...)
			if f.Generated {
				continue
			}
			if f.Lines > maxLines {
				found = append(found, Finding{"long", f.Path, f.Lines, fmt.Sprintf("has %d lines, at most %d", f.Lines, maxLines)})
			}
			found = append(found, checkTodo(f)...)
			if !f.Test {
				found = append(found, checkDeclarations(f)...)
			}
		}
	}
	return found
}

func checkForeign(f *File) (found []Finding) {
	for _, imported := range f.imports() {
		for _, bad := range foreign {
			if strings.HasPrefix(imported, bad) {
				found = append(found, Finding{"foreign", f.Path, 0, "imports " + imported + ", which belongs to tests/go.mod"})
			}
		}
	}
	return found
}

func checkTodo(f *File) (found []Finding) {
	for _, group := range f.AST.Comments {
		for _, c := range group.List {
			if todo.MatchString(c.Text) && !todoIssue.MatchString(c.Text) {
				found = append(found, Finding{"todo", f.Path, f.line(c), "has a promise without an issue: TODO(#number)"})
			}
		}
	}
	return found
}

// Methods whose meaning the standard library's interfaces define.
var wellKnown = []string{"Error", "String", "Unwrap", "Is", "As"}

// checkDeclarations asks exported names for a docstring and functions not to
// be init.
func checkDeclarations(f *File) (found []Finding) {
	undocumented := func(id *ast.Ident) {
		if id.IsExported() && f.AST.Name.Name != "main" {
			found = append(found, Finding{"doc", f.Path + ":" + id.Name, f.line(id), "is exported and has no docstring"})
		}
	}
	for _, d := range f.AST.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name == "init" {
				found = append(found, Finding{"init", f.Path, f.line(d), "has an init function"})
			}
			if d.Doc == nil && (d.Recv == nil || exportedReceiver(d) && !slices.Contains(wellKnown, d.Name.Name)) {
				undocumented(d.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					if d.Doc == nil && s.Doc == nil {
						undocumented(s.Name)
					}
				case *ast.ValueSpec:
					if d.Doc == nil && s.Doc == nil && s.Comment == nil {
						undocumented(s.Names[0])
					}
				}
			}
		}
	}
	return found
}

func exportedReceiver(d *ast.FuncDecl) bool {
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// checkVariables refuses package variables that change. What may stand at
// package level is what is never written after its declaration (sentinels,
// tables, compiled patterns), and sync.Pool, whose contents mean nothing.
// Without types the rule sees assignments, increments, clear, delete, copy and
// addresses taken, but not methods that change their receiver.
func checkVariables(t *Tree) (found []Finding) {
	for _, p := range t.Packages {
		found = append(found, checkPackageVariables(p)...)
	}
	return found
}

func checkPackageVariables(p *Package) (found []Finding) {
	declared := map[string]bool{}
	specs := map[*ast.ValueSpec]bool{}
	for _, f := range p.Files {
		if f.Test || f.Generated {
			continue
		}
		for _, d := range f.AST.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				spec := s.(*ast.ValueSpec)
				specs[spec] = true
				for _, id := range spec.Names {
					declared[id.Name] = id.Name != "_"
				}
				if len(spec.Values) == 0 && !isPool(spec.Type) && spec.Names[0].Name != "_" {
					found = append(found, Finding{"variable", f.Path + ":" + spec.Names[0].Name, f.line(spec), "is a package variable that starts empty: it can only change"})
				}
			}
		}
	}
	if len(declared) == 0 {
		return found
	}
	for _, f := range p.Files {
		if f.Generated {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			for _, e := range written(n) {
				id := root(e)
				if id == nil || !declared[id.Name] {
					continue
				}
				if id.Obj != nil && !atPackageLevel(id.Obj, specs) { // A local variable of that name.
					continue
				}
				found = append(found, Finding{"variable", f.Path + ":" + id.Name, f.line(n), "is a package variable and is written here"})
			}
			return true
		})
	}
	return found
}

func atPackageLevel(o *ast.Object, specs map[*ast.ValueSpec]bool) bool {
	s, ok := o.Decl.(*ast.ValueSpec)
	return ok && specs[s]
}

// isPool accepts sync.Pool, arrays of it, and structs of nothing else.
func isPool(t ast.Expr) bool {
	switch t := t.(type) {
	case *ast.ArrayType:
		return isPool(t.Elt)
	case *ast.SelectorExpr:
		return t.Sel.Name == "Pool"
	case *ast.StructType:
		return !slices.ContainsFunc(t.Fields.List, func(f *ast.Field) bool { return !isPool(f.Type) })
	}
	return false
}

// written returns the expressions that n may change.
func written(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	case *ast.RangeStmt:
		if n.Tok == token.ASSIGN {
			return []ast.Expr{n.Key, n.Value}
		}
	case *ast.UnaryExpr:
		if n.Op == token.AND {
			return []ast.Expr{n.X}
		}
	case *ast.CallExpr:
		if f, ok := n.Fun.(*ast.Ident); ok && slices.Contains([]string{"clear", "delete", "copy"}, f.Name) && f.Obj == nil && len(n.Args) > 0 {
			return n.Args[:1]
		}
	}
	return nil
}

// root is the variable that x.f[i].g begins with.
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}
