package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// parseProperties reads the format of java.util.Properties: comments with # or !, a backslash at a line's end, key and
// value parted by =, : or white space, escapes. Of a repeated key the last counts. Java reads Latin-1; we read UTF-8 where the
// text is UTF-8, so that a path with an umlaut is the path that was written.
func parseProperties(data []byte) (map[string]string, error) {
	text := decode(data)
	values := make(map[string]string)
	for line := 1; text != ""; {
		logical, rest, lines := logicalLine(text)
		if logical != "" {
			key, value := splitProperty(logical)
			k, err := unescape(key)
			v, err2 := unescape(value)
			if err = errors.Join(err, err2); err != nil {
				return nil, fmt.Errorf("line %d: %w", line, err)
			}
			values[k] = v
		}
		text, line = rest, line+lines
	}
	return values, nil
}

func decode(data []byte) string {
	if utf8.Valid(data) {
		return string(data)
	}
	runes := make([]rune, len(data))
	for i, b := range data {
		runes[i] = rune(b)
	}
	return string(runes)
}

const propertySpace = " \t\f"

// logicalLine takes the first line and those it is continued by. Comments and blank lines give "", and never continue.
func logicalLine(text string) (logical, rest string, lines int) {
	var joined strings.Builder
	for rest = text; rest != ""; {
		var line string
		line, rest = naturalLine(rest)
		lines++
		line = strings.TrimLeft(line, propertySpace)
		if joined.Len() == 0 && lines == 1 && (line == "" || line[0] == '#' || line[0] == '!') {
			return "", rest, lines
		}
		backslashes := len(line) - len(strings.TrimRight(line, `\`))
		if backslashes%2 == 0 {
			joined.WriteString(line)
			break
		}
		joined.WriteString(line[:len(line)-1])
	}
	return joined.String(), rest, lines
}

func naturalLine(text string) (line, rest string) {
	i := strings.IndexAny(text, "\r\n")
	if i < 0 {
		return text, ""
	}
	if strings.HasPrefix(text[i:], "\r\n") {
		return text[:i], text[i+2:]
	}
	return text[:i], text[i+1:]
}

func splitProperty(line string) (key, value string) {
	end := len(line)
	for i := 0; i < len(line); i++ {
		if line[i] == '\\' {
			i++
			continue
		}
		if strings.IndexByte("=:"+propertySpace, line[i]) >= 0 {
			end = i
			break
		}
	}
	value = strings.TrimLeft(line[end:], propertySpace)
	if value != "" && (value[0] == '=' || value[0] == ':') {
		value = strings.TrimLeft(value[1:], propertySpace)
	}
	return line[:end], value
}

// unescape resolves backslashes. \uXXXX are UTF-16 units, so that two of them may be one character.
func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var units []uint16
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		i += size
		if r != '\\' || i == len(s) {
			if r != '\\' {
				units = utf16.AppendRune(units, r)
			}
			continue
		}
		r, size = utf8.DecodeRuneInString(s[i:])
		i += size
		if r != 'u' {
			units = utf16.AppendRune(units, plainEscape(r))
			continue
		}
		if len(s) < i+4 {
			return "", errors.New(`malformed \uXXXX`)
		}
		n, err := strconv.ParseUint(s[i:i+4], 16, 16)
		if err != nil {
			return "", errors.New(`malformed \uXXXX`)
		}
		units = append(units, uint16(n))
		i += 4
	}
	return string(utf16.Decode(units)), nil
}

func plainEscape(r rune) rune {
	switch r {
	case 't':
		return '\t'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 'f':
		return '\f'
	}
	return r
}

// parseYAML reads a flat mapping of Kafka's keys. A list is joined by commas; anything deeper is refused, because log: {dirs: …}
// would be a second way to spell every key.
func parseYAML(data []byte) (map[string]string, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return map[string]string{}, nil
		}
		return nil, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document")
	}
	root := document.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: it must be a mapping of keys to values", root.Line)
	}
	values := make(map[string]string)
	for i := 0; i < len(root.Content); i += 2 {
		name, node := root.Content[i].Value, root.Content[i+1]
		if _, twice := values[name]; twice {
			return nil, fmt.Errorf("line %d: %s is set twice", root.Content[i].Line, name)
		}
		text, err := yamlValue(node)
		if err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", node.Line, name, err)
		}
		values[name] = text
	}
	return values, nil
}

func yamlValue(n *yaml.Node) (string, error) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return "", errors.New(`it has no value; write "" for an empty one`)
	case n.Kind == yaml.ScalarNode:
		return n.Value, nil
	case n.Kind == yaml.SequenceNode:
		return yamlList(n)
	}
	return "", errors.New("nested values are not read: keys are written out, as in log.dirs: /data")
}

func yamlList(n *yaml.Node) (string, error) {
	texts := make([]string, len(n.Content))
	for i, e := range n.Content {
		if e.Kind != yaml.ScalarNode || e.Tag == "!!null" {
			return "", errors.New("an element of a list must be a plain value")
		}
		texts[i] = e.Value
	}
	return strings.Join(texts, ","), nil
}

// didYouMean suggests the key that is nearest to an unknown one, if any is near.
func didYouMean(name string) string {
	best, least := "", 2+len(name)/6
	for _, k := range brokerTable().keys {
		if d := distance(name, k.Name, least); d < least {
			best, least = k.Name, d
		}
	}
	switch {
	case best != "":
		return fmt.Sprintf(" (did you mean %s?)", best)
	case len(topicTable().byName) > 0:
		if _, ok := LookupTopicKey(name); ok {
			return topicHint(name)
		}
	}
	return ""
}

// topicHint helps who writes a topic's key where a broker's belongs.
func topicHint(name string) string {
	key, _ := LookupTopicKey(name)
	if len(key.Synonyms) == 0 {
		return " (it is a config of topics)"
	}
	return fmt.Sprintf(" (it is a config of topics; for all topics of the broker it is %s)", key.Synonyms[0].Name)
}

// distance is Levenshtein's, given up when it cannot be under the limit.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// systemMemory is the memory of the machine or of the process's group, whichever is less; a gibibyte where nobody says.
func systemMemory() int64 {
	memory := int64(1 << 30)
	if info, err := os.ReadFile("/proc/meminfo"); err == nil {
		fields := strings.Fields(string(info)) // MemTotal: 24567890 kB …
		if len(fields) > 1 {
			if kib, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
				memory = kib << 10
			}
		}
	}
	if limit, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(limit)), 10, 64); err == nil {
			memory = min(memory, n)
		}
	}
	return memory
}
