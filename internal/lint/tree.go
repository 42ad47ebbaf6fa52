package lint

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Module is the import path of the root module.
const Module = "github.com/barnabas-log/barnabas"

// Tree is the parsed source of a module.
type Tree struct {
	Packages map[string]*Package // By directory, slash-separated, from the root; the root is ".".
}

// Package is one directory of Go files, whatever their build constraints.
type Package struct {
	Dir   string
	Files []*File
}

// File is one parsed Go file.
type File struct {
	Path      string // Slash-separated, from the root.
	Lines     int
	Test      bool // Ends in _test.go.
	Generated bool
	AST       *ast.File
	set       *token.FileSet
}

// Load parses the module below root. Directories that are modules of their own,
// hidden ones and testdata are left out, as the go command does.
func Load(root string) (*Tree, error) {
	t := &Tree{Packages: map[string]*Package{}}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return enter(root, name, d)
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		return t.Add(filepath.ToSlash(rel), src)
	})
	return t, err
}

// enter says whether a directory belongs to the module.
func enter(root, name string, d fs.DirEntry) error {
	if name == root {
		return nil
	}
	if base := d.Name(); base == "testdata" || base == "vendor" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

// Add parses one file; name is its slash-separated path from the root. Bodies
// of generated files are not looked at by any rule, so only their imports are
// parsed.
func (t *Tree) Add(name string, src []byte) error {
	head, _, _ := strings.Cut(string(src), "\npackage ")
	generated := strings.Contains(head, "// Code generated ") && strings.Contains(head, "DO NOT EDIT.")
	mode := parser.ParseComments
	if generated {
		mode |= parser.ImportsOnly
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, src, mode)
	if err != nil {
		return fmt.Errorf("lint: %w", err)
	}
	dir := path.Dir(name)
	if t.Packages[dir] == nil {
		t.Packages[dir] = &Package{Dir: dir}
	}
	p := t.Packages[dir]
	p.Files = append(p.Files, &File{
		Path: name, Lines: strings.Count(string(src), "\n"), Test: strings.HasSuffix(name, "_test.go"),
		Generated: generated, AST: file, set: set,
	})
	return nil
}

// line is where n is in its file.
func (f *File) line(n ast.Node) int { return f.set.Position(n.Pos()).Line }

// imports returns the file's import paths.
func (f *File) imports() []string {
	var paths []string
	for _, s := range f.AST.Imports {
		paths = append(paths, strings.Trim(s.Path.Value, `"`))
	}
	return paths
}

// inModule turns an import path of the module into its directory.
func inModule(imported string) (dir string, ok bool) {
	if imported == Module {
		return ".", true
	}
	return strings.CutPrefix(imported, Module+"/")
}
