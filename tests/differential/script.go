package differential

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/barnabas-log/barnabas/wire"
)

// script is a parsed file.
type script struct {
	name       string
	properties []string
	plugin     string // a class of Kafka's broker, under java
	data       string // the directory that the broker begins with, under testdata/data
	unclean    bool   // as if the one who wrote it had been killed
	steps      []step
}

// step is a line of a script, with its JSON.
type step struct {
	line    int
	verb    string
	args    []string
	options map[string]string
	api     wire.API
	first   int16
	last    int16
	body    any
}

// label names a step in answers and failures: it must not depend on line numbers, or every edit would touch all answers.
func (s *step) label() string {
	if l := s.options["label"]; l != "" {
		return l
	}
	return s.verb + " " + strings.Join(s.args, " ")
}

func parseScript(file, name string) (*script, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	s := &script{name: name}
	lines := bufio.NewScanner(strings.NewReader(string(data)))
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		st, err := parseStep(text, n)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
		if st.verb == "call" {
			used, err := st.readBody(lines)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, n, err)
			}
			n += used
		}
		if st.verb == "broker" {
			s.properties = append(s.properties, strings.TrimSpace(strings.TrimPrefix(text, "broker")))
			continue
		}
		if st.verb == "plugin" {
			s.plugin = st.args[0]
			s.properties = append(s.properties, "metric.reporters="+s.plugin)
			continue
		}
		if st.verb == "data" {
			s.data, s.unclean = st.args[0], slices.Contains(st.args, "unclean")
			continue
		}
		s.steps = append(s.steps, st)
	}
	return s, lines.Err()
}

func parseStep(text string, line int) (step, error) {
	words := strings.Fields(text)
	s := step{line: line, verb: words[0], options: map[string]string{}}
	if s.verb == "raw" {
		s.args = words[1:]
		return s, nil
	}
	for i, w := range words[1:] {
		key, value, isOption := strings.Cut(w, "=")
		switch {
		case key == "label" && isOption:
			s.options["label"] = strings.TrimPrefix(strings.Join(words[1:][i:], " "), "label=")
			return s, s.finish()
		case isOption && s.verb != "save" && s.verb != "broker":
			s.options[key] = value
		default:
			s.args = append(s.args, w)
		}
	}
	return s, s.finish()
}

func (s *step) finish() error {
	switch s.verb {
	case "broker", "topic", "await", "gone", "producer", "save", "data", "transaction", "stable", "ended", "coordinator", "settled", "wait", "plugin", "restart", "kill", "break", "mend", "ruin", "moved", "offline", "answered", "group":
		return nil
	case "call":
		return s.parseCall()
	}
	return fmt.Errorf("no such verb: %s", s.verb)
}

func (s *step) parseCall() error {
	if len(s.args) != 2 {
		return fmt.Errorf("call wants an API and versions, not %q", s.args)
	}
	for _, a := range wire.APIs() {
		if a.Name == s.args[0] {
			s.api = a
		}
	}
	if s.api.NewRequest == nil {
		return fmt.Errorf("no such API: %s", s.args[0])
	}
	if s.args[1] == "all" {
		s.first, s.last = s.api.MinVersion, s.api.MaxVersion
		return nil
	}
	from, to, isRange := strings.Cut(s.args[1], "-")
	if !isRange {
		to = from
	}
	first, err1 := strconv.ParseInt(from, 10, 16)
	last, err2 := strconv.ParseInt(to, 10, 16)
	if err1 != nil || err2 != nil || first > last {
		return fmt.Errorf("no versions: %s", s.args[1])
	}
	s.first, s.last = int16(first), int16(last)
	return nil
}

// readBody reads JSON up to a blank line; none is an empty request.
func (s *step) readBody(lines *bufio.Scanner) (used int, err error) {
	var b strings.Builder
	for lines.Scan() {
		used++
		if strings.TrimSpace(lines.Text()) == "" {
			break
		}
		b.WriteString(lines.Text() + "\n")
	}
	if b.Len() == 0 {
		return used, nil
	}
	d := json.NewDecoder(strings.NewReader(b.String()))
	d.UseNumber()
	if err := d.Decode(&s.body); err != nil {
		return used, err
	}
	if d.More() {
		return used, fmt.Errorf("text after the JSON")
	}
	return used, nil
}
