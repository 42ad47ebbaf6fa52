// Testreport reads what `go test -json` prints and says what people want to
// know: a line per package, the output of what failed, and last the tests that
// were skipped, with their reasons. It exits with 1 if anything failed, if no
// package was tested, and, when CI is true, if anything was skipped.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is a line of `go test -json`; see `go doc test2json`. Lines of failed
// builds have an ImportPath instead of a Package.
type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64
}

type report struct {
	out             io.Writer
	output          map[[2]string]*strings.Builder // By package and test, until it has ended.
	passed, skipped []string
	failed          int
}

func main() {
	r := report{out: os.Stdout, output: map[[2]string]*strings.Builder{}}
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if !r.summary(os.Getenv("CI") == "true") {
		os.Exit(1)
	}
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil {
				r.take(e)
			} else { // The go command itself, or the Makefile: FAIL is its exit code.
				fmt.Fprintf(r.out, "%s", line)
				if strings.HasPrefix(string(line), "FAIL") {
					r.failed++
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) take(e event) {
	at := [2]string{e.Package, e.Test}
	switch e.Action {
	case "output":
		if r.output[at] == nil {
			r.output[at] = &strings.Builder{}
		}
		r.output[at].WriteString(e.Output)
		return
	case "build-output":
		fmt.Fprint(r.out, e.Output)
		return
	case "build-fail":
		r.failed++
		return
	case "fail":
		r.fail(e, at)
	case "skip":
		if e.Test != "" { // Else a package without tests.
			r.skipped = append(r.skipped, name(e)+": "+reason(r.text(at)))
		}
	case "pass":
		if e.Test == "" {
			r.passed = append(r.passed, e.Package)
			fmt.Fprintf(r.out, "ok    %7.2fs  %s\n", e.Elapsed, e.Package)
		}
	default:
		return
	}
	delete(r.output, at)
}

func (r *report) fail(e event, at [2]string) {
	r.failed++
	fmt.Fprintf(r.out, "FAIL  %7.2fs  %s\n", e.Elapsed, name(e))
	if e.Test == "" { // A package that died leaves its running tests without an end.
		for k, b := range r.output {
			if k[0] == e.Package && k[1] != "" {
				fmt.Fprint(r.out, b.String())
			}
		}
	}
	fmt.Fprint(r.out, r.text(at))
}

func (r *report) text(at [2]string) string {
	if b := r.output[at]; b != nil {
		return b.String()
	}
	return ""
}

// summary prints the end of the report and says whether all is well.
func (r *report) summary(ci bool) bool {
	slices.Sort(r.skipped)
	fmt.Fprintf(r.out, "\n%d packages passed, %d failures, %d tests not run\n", len(r.passed), r.failed, len(r.skipped))
	for _, s := range r.skipped {
		fmt.Fprintln(r.out, "NOT RUN", s)
	}
	if ci && len(r.skipped) > 0 {
		fmt.Fprintln(r.out, "CI runs every test: what was not run is a failure")
		return false
	}
	return r.failed == 0 && len(r.passed) > 0
}

func name(e event) string {
	pkg := strings.TrimPrefix(e.Package, "github.com/barnabas-log/barnabas/")
	return strings.TrimSpace(pkg + " " + e.Test)
}

// reason finds the message in "    file_test.go:12: message" before "--- SKIP".
func reason(output string) string {
	message := ""
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "--- SKIP") || strings.HasPrefix(line, "=== ") || line == "" {
			continue
		}
		if _, m, ok := strings.Cut(line, ".go:"); ok {
			if _, m, ok = strings.Cut(m, ": "); ok {
				line = m
			}
		}
		message = strings.TrimSpace(strings.TrimPrefix(line, "NOT RUN:"))
	}
	return message
}
