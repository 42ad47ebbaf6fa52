package zpl

import (
	"errors"
	"fmt"
	"strings"
)

// indent is one level.
const indent = "    "

// Section is a name with what stands below it. The root has neither name nor
// value.
type Section struct {
	Name  string
	Value string
	// HasValue tells "name =" from "name".
	HasValue bool
	// Line is where it was read, the first line being 1; 0 if it was not.
	Line     int
	Children []*Section
}

// Error says which line is wrong, and why.
type Error struct {
	Line int // The first is 1.
	Why  string
}

func (e *Error) Error() string { return fmt.Sprintf("zpl: line %d: %s", e.Line, e.Why) }

// Get looks for a value by a path such as "beacon/pub_address". Where names are
// repeated, the first section counts, and the others are as if they were not there.
// It reports whether there is such a name with a value.
func (s *Section) Get(path string) (string, bool) {
	if at := s.Find(path); at != nil && at.HasValue {
		return at.Value, true
	}
	return "", false
}

// Find is the section of a path, or nil. Names may have slashes in them: the
// first child that fits the path is followed.
func (s *Section) Find(path string) *Section {
	if path == "" {
		return s
	}
	for _, c := range s.Children {
		if rest, ok := strings.CutPrefix(path, c.Name); ok {
			if rest == "" {
				return c
			}
			if rest[0] == '/' {
				return c.Find(rest[1:])
			}
		}
	}
	return nil
}

// Set gives the path a value. What is missing on the way there is added, each
// part between slashes as one name.
func (s *Section) Set(path, value string) {
	for path != "" {
		if at := s.Find(path); at != nil {
			s = at
			break
		}
		var name string
		name, path, _ = strings.Cut(path, "/")
		next := s.Find(name)
		if next == nil {
			next = &Section{Name: name}
			s.Children = append(s.Children, next)
		}
		s = next
	}
	s.Value, s.HasValue = value, true
}

// AppendText appends all that is below s, and nothing of s itself, such that
// [Parse] reads the same again, without comments. It fails where ZPL has no way
// to say something.
func (s *Section) AppendText(dst []byte) ([]byte, error) {
	return s.appendText(dst, 0)
}

func (s *Section) appendText(dst []byte, level int) ([]byte, error) {
	for _, c := range s.Children {
		if err := checkName(c.Name); err != nil {
			return dst, fmt.Errorf("zpl: %w", err)
		}
		for range level {
			dst = append(dst, indent...)
		}
		dst = append(dst, c.Name...)
		if c.HasValue {
			value, err := quoted(c.Value)
			if err != nil {
				return dst, fmt.Errorf("zpl: value of %q: %w", c.Name, err)
			}
			dst = append(append(dst, " = "...), value...)
		}
		var err error
		if dst, err = c.appendText(append(dst, '\n'), level+1); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// quoted is how a value is written: bare if it can be.
func quoted(v string) (string, error) {
	if at := strings.IndexFunc(v, forbidden); at >= 0 {
		return "", fmt.Errorf("control character at byte %d", at)
	}
	bare := v != "" && v == strings.Trim(v, " \t") && !strings.Contains(v, "#") && v[0] != '"' && v[0] != '\''
	switch {
	case bare:
		return v, nil
	case !strings.Contains(v, `"`):
		return `"` + v + `"`, nil
	case !strings.Contains(v, `'`):
		return `'` + v + `'`, nil
	}
	return "", errors.New("needs quotes and has both kinds of them")
}

// forbidden are characters that no line may have.
func forbidden(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

func checkName(name string) error {
	if name == "" {
		return errors.New("name missing")
	}
	for _, r := range []byte(name) {
		if !nameByte(r) {
			return fmt.Errorf("character %q in name", r)
		}
	}
	if name[0] == '/' || name[len(name)-1] == '/' {
		return fmt.Errorf("name %q starts or ends with a slash", name)
	}
	return nil
}

func nameByte(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || strings.IndexByte("$-_@.&+/", b) >= 0
}
