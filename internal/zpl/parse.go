package zpl

import (
	"fmt"
	"strings"
)

// Parse reads a whole text. Its errors are of type [*Error].
func Parse(text []byte) (*Section, error) {
	root := &Section{}
	// path is the section that was read last, and those around it: path[n] is
	// where sections of level n go.
	path := []*Section{root}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		level, s, err := parseLine(strings.TrimRight(line, " \t\r\n"))
		switch {
		case err != nil:
			return nil, &Error{Line: number, Why: err.Error()}
		case s == nil:
			continue
		case level >= len(path):
			return nil, &Error{Line: number, Why: fmt.Sprintf("%q is on level %d, but there is nothing above it on level %d", s.Name, level, level-1)}
		}
		s.Line = number
		path[level].Children = append(path[level].Children, s)
		path = append(path[:level+1], s)
	}
	return root, nil
}

// parseLine reads one line without its end. A line that says nothing is nil.
func parseLine(line string) (level int, s *Section, err error) {
	rest := strings.TrimLeft(line, " \t")
	if rest == "" || rest[0] == '#' {
		return 0, nil, nil
	}
	if at := strings.IndexFunc(line, forbidden); at >= 0 {
		return 0, nil, fmt.Errorf("control character at byte %d", at)
	}
	space := line[:len(line)-len(rest)]
	if strings.Contains(space, "\t") {
		return 0, nil, fmt.Errorf("tab in the indentation: a level is four spaces")
	}
	if len(space)%len(indent) != 0 {
		return 0, nil, fmt.Errorf("indented by %d spaces: a level is four", len(space))
	}
	s, err = parseProperty(rest)
	return len(space) / len(indent), s, err
}

// parseProperty reads "name", "name = value", and a comment behind either.
func parseProperty(text string) (*Section, error) {
	end := 0
	for end < len(text) && nameByte(text[end]) {
		end++
	}
	s := &Section{Name: text[:end]}
	rest := strings.TrimLeft(text[end:], " \t")
	if rest != "" && rest[0] != '=' && rest[0] != '#' {
		return nil, fmt.Errorf("unexpected %q after %q", rest[0], s.Name)
	}
	if err := checkName(s.Name); err != nil {
		return nil, err
	}
	if rest == "" || rest[0] == '#' {
		return s, nil
	}
	s.HasValue = true
	var err error
	s.Value, err = parseValue(strings.TrimLeft(rest[1:], " \t"))
	return s, err
}

func parseValue(text string) (string, error) {
	if text == "" || text[0] != '"' && text[0] != '\'' {
		bare, _, _ := strings.Cut(text, "#")
		return strings.TrimRight(bare, " \t"), nil
	}
	value, rest, closed := strings.Cut(text[1:], text[:1])
	if !closed {
		return "", fmt.Errorf("no closing %c", text[0])
	}
	if rest = strings.TrimLeft(rest, " \t"); rest != "" && rest[0] != '#' {
		return "", fmt.Errorf("unexpected %q after a quoted value", rest)
	}
	return value, nil
}
