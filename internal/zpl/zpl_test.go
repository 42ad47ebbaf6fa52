package zpl

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const example = `#   How a node finds its tower.
beacon
    pub_address = tcp://127.0.0.1:5557   # Where beacons come from.
    sub_address = "tcp://127.0.0.1:5556"

    # Several towers:
    more = 'a # b'   # c
beacon
    pub_address = second
    only = here
store=storedb
consumer
    offset
        reset	= earliest` + "\r" + `
empty =
last/one = x=y "z"
`

func TestGet(t *testing.T) {
	root, err := Parse([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	f := func(path, want string, there bool) {
		t.Helper()
		if got, ok := root.Get(path); got != want || ok != there {
			t.Errorf("%s: got %q, %t, want %q, %t", path, got, ok, want, there)
		}
	}
	f("beacon/pub_address", "tcp://127.0.0.1:5557", true)
	f("beacon/sub_address", "tcp://127.0.0.1:5556", true)
	f("beacon/more", "a # b", true)
	f("beacon/only", "", false)
	f("beacon", "", false)
	f("store", "storedb", true)
	f("consumer/offset/reset", "earliest", true)
	f("consumer/offset", "", false)
	f("consumer/off", "", false)
	f("empty", "", true)
	f("last/one", `x=y "z"`, true)
	f("last", "", false)
	if at := root.Find("consumer/offset/reset"); at == nil || at.Line != 14 {
		t.Errorf("found %+v, want line 14", at)
	}
}

func TestErrors(t *testing.T) {
	f := func(text string, line int, why string) {
		t.Helper()
		_, err := Parse([]byte(text))
		var e *Error
		if !errors.As(err, &e) || e.Line != line || !strings.Contains(e.Why, why) {
			t.Errorf("%q: got %v, want line %d: %s", text, err, line, why)
		}
	}
	f("a\n\tb = 1", 2, "tab")
	f("a\n  b = 1", 2, "2 spaces")
	f("    a = 1", 1, "level 1")
	f("a\n        b", 2, "level 2")
	f("a b", 1, `'b' after "a"`)
	f("= 1", 1, "name missing")
	f("a!b = 1", 1, `'!'`)
	f("/a = 1", 1, "slash")
	f("a/ = 1", 1, "slash")
	f("\n\na = \"b", 3, "closing")
	f("a = 'b' c", 1, "after a quoted value")
	f("a = b\x00", 1, "control")
	f("é = 1", 1, "")
}

func TestAppendText(t *testing.T) {
	root, err := Parse([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	root.Set("new/deep/path", "1")
	root.Set("store", "other")
	text, err := root.AppendText(nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = `beacon
    pub_address = tcp://127.0.0.1:5557
    sub_address = tcp://127.0.0.1:5556
    more = "a # b"
beacon
    pub_address = second
    only = here
store = other
consumer
    offset
        reset = earliest
empty = ""
last/one = x=y "z"
new
    deep
        path = 1
`
	if d := cmp.Diff(want, string(text)); d != "" {
		t.Error(d)
	}
	f := func(name, value string) {
		t.Helper()
		s := Section{Children: []*Section{{Name: name, Value: value, HasValue: true}}}
		if text, err := s.AppendText(nil); err == nil {
			t.Errorf("%q = %q was written: %q", name, value, text)
		}
	}
	f("a", "two\nlines")
	f("a", ` "both' `)
	f("a b", "1")
	f("", "1")
	f("/a", "1")
}

// What was read can be written, and reads the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte("a = '\"'\n    b\n        c = \"#'\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		root, err := Parse(text)
		if err != nil {
			return
		}
		written, err := root.AppendText(nil)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		again, err := Parse(written)
		if err != nil {
			t.Fatalf("%q became %q: %v", text, written, err)
		}
		if a, b := root.flat(nil, ""), again.flat(nil, ""); !cmp.Equal(a, b) {
			t.Fatal(cmp.Diff(a, b))
		}
	})
}

func (s *Section) flat(dst []string, above string) []string {
	for _, c := range s.Children {
		at := above + "/" + c.Name
		if c.HasValue {
			dst = append(dst, at+"="+c.Value)
		}
		dst = c.flat(append(dst, at), at)
	}
	return dst
}
