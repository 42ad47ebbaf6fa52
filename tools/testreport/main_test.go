package main

import (
	"strings"
	"testing"
)

// The verdict and the last lines follow from the events of `go test -json`.
func TestReport(t *testing.T) {
	const (
		ok   = `{"Action":"pass","Package":"p","Elapsed":1}` + "\n"
		fail = `{"Action":"output","Package":"p","Test":"TestX","Output":"x_test.go:3: wrong\n"}` + "\n" + `{"Action":"fail","Package":"p","Test":"TestX"}` + "\n"
		skip = `{"Action":"output","Package":"p","Test":"TestY","Output":"    y_test.go:3: kcat is not here\n"}` + "\n" +
			`{"Action":"output","Package":"p","Test":"TestY","Output":"--- SKIP: TestY (0.00s)\n"}` + "\n" + `{"Action":"skip","Package":"p","Test":"TestY"}` + "\n"
		died = `{"Action":"output","Package":"p","Test":"TestZ","Output":"panic: z\n"}` + "\n" + `{"Action":"fail","Package":"p"}` + "\n"
	)
	f := func(events string, ci, want bool, contains ...string) {
		t.Helper()
		var out strings.Builder
		r := report{out: &out, output: map[[2]string]*strings.Builder{}}
		if err := r.read(strings.NewReader(events)); err != nil {
			t.Fatal(err)
		}
		if got := r.summary(ci); got != want {
			t.Errorf("all is well: %v, want %v\n%s", got, want, &out)
		}
		for _, c := range contains {
			if !strings.Contains(out.String(), c) {
				t.Errorf("lacks %q:\n%s", c, &out)
			}
		}
	}
	f("", false, false, "0 packages passed")
	f(ok, false, true, "1 packages passed, 0 failures, 0 tests not run")
	f(fail+ok, false, false, "x_test.go:3: wrong", "FAIL")
	f(skip+ok, false, true, "NOT RUN p TestY: kcat is not here\n")
	f(skip+ok, true, false, "NOT RUN p TestY: kcat is not here\n")
	f(died+ok, false, false, "panic: z")
	f(`{"Action":"build-output","ImportPath":"p","Output":"undefined: q\n"}`+"\n"+`{"Action":"build-fail","ImportPath":"p"}`+"\n"+ok, false, false, "undefined: q")
	f("go: downloading p v1.0.0\n"+ok, false, true)
	f("go: no module\nFAIL: go test\n"+ok, false, false, "go: no module")
}
