package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every exported error of the packages below that a request may meet has its
// code in the one map. Those that cannot reach a request are named here, with
// the reason.
func TestErrorMapIsComplete(t *testing.T) {
	elsewhere := map[string]string{
		"producers.ErrSnapshot": "met when a partition is opened",
		"commitlog.ErrNotNext":  "followers append with offsets, clients without",
		"commitlog.ErrNoRoom":   "met by the cleaner",
		"commitlog.ErrNoKey":    "met by the cleaner",
		"commitlog.ErrChanged":  "met by the cleaner",
		"replicas.ErrNoLog":     "met by commands on a broker that is stopped",
	}
	source, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, pkg := range []string{"partition", "producers", "controller", "commitlog", "replicas", "quorum"} {
		for _, name := range sentinelsOf(t, pkg) {
			n++
			name = pkg + "." + name
			mapped := strings.Contains(string(source), "{"+name+", wire.")
			if mapped == (elsewhere[name] != "") {
				t.Errorf("%s: mapped is %v, elsewhere %q", name, mapped, elsewhere[name])
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d errors found", n)
	}
}

// sentinelsOf lists the exported variables that are errors.New.
func sentinelsOf(t *testing.T, pkg string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", pkg, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if _, body := n.(*ast.BlockStmt); body {
				return false
			}
			v, ok := n.(*ast.ValueSpec)
			if ok && strings.HasPrefix(v.Names[0].Name, "Err") && len(v.Values) == 1 {
				names = append(names, v.Names[0].Name)
			}
			return true
		})
	}
	return names
}
