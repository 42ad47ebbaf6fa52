package lint

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
)

// Packages that a machine may not import, with all below them but net/netip,
// which only computes.
var impure = []string{
	"context", "crypto/rand", "io/ioutil", "log", "net", "os", "sync", "syscall", "testing", "golang.org/x/sys", "golang.org/x/term",
}

// Of these packages a machine may use only what is not listed; of math/rand
// only what randomTypes has.
var impureNames = map[string][]string{
	"time":    {"After", "AfterFunc", "Local", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"},
	"runtime": {"GC", "Gosched", "NumCPU", "NumGoroutine", "SetFinalizer"},
}

// What a machine may use of math/rand: a generator is an argument.
var randomTypes = []string{"Rand", "Source", "New", "NewPCG", "NewChaCha8", "NewZipf"}

// checkMachines looks for clocks, goroutines, locks, devices and chance in
// packages that must not have any. Tests of machines are free.
func checkMachines(t *Tree, floors Floors) (found []Finding) {
	for dir, p := range t.Packages {
		if !floors[dir].Machine {
			continue
		}
		for _, f := range p.Files {
			if !f.Test {
				found = append(found, checkMachine(f)...)
			}
		}
	}
	return found
}

func checkMachine(f *File) (found []Finding) {
	say := func(n ast.Node, format string, args ...any) {
		found = append(found, Finding{"machine", f.Path, f.line(n), fmt.Sprintf(format, args...)})
	}
	names := map[string]string{} // What this file calls a package: its path.
	for _, s := range f.AST.Imports {
		p := strings.Trim(s.Path.Value, `"`)
		for _, bad := range impure {
			if p != "net/netip" && (p == bad || strings.HasPrefix(p, bad+"/")) {
				say(s, "imports %s", p)
			}
		}
		name := path.Base(strings.TrimSuffix(p, "/v2"))
		if s.Name != nil {
			name = s.Name.Name
		}
		names[name] = p
	}
	ast.Inspect(f.AST, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			say(n, "starts a goroutine")
		case *ast.ChanType:
			say(n, "has a channel")
		case *ast.SelectStmt:
			say(n, "selects")
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok || x.Obj != nil { // An Obj: a local thing hides the package.
				return true
			}
			if p := names[x.Name]; banned(p, n.Sel.Name) {
				say(n, "uses %s.%s", x.Name, n.Sel.Name)
			}
		}
		return true
	})
	return found
}

func banned(pkg, name string) bool {
	if strings.HasPrefix(pkg, "math/rand") {
		return !slices.Contains(randomTypes, name)
	}
	return slices.Contains(impureNames[pkg], name)
}
