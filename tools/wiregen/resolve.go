package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// renamed are fields whose Go name would be that of a method.
var renamed = map[string]string{"FindCoordinatorRequest.Key": "CoordinatorKey"}

// resolve builds the structures of all messages and checks that their names are
// unique.
func resolve(messages []*message) error {
	owner := map[string]string{}
	for _, m := range messages {
		m.goName = goMessageName(m)
		if m.Valid.none() {
			continue
		}
		if err := m.resolve(); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		for _, s := range m.structs {
			if o, taken := owner[s.goName]; taken {
				return fmt.Errorf("%s: struct %s belongs to %s", m.Name, s.goName, o)
			}
			owner[s.goName] = m.Name
		}
	}
	return nil
}

func (m *message) resolve() error {
	byName := map[string]*structure{}
	defs := map[string][]*field{}
	collect(m.Fields, defs)
	for _, c := range m.Common {
		defs[c.Name] = c.Fields
		collect(c.Fields, defs)
	}
	var build func(s *structure, fields []*field) error
	build = func(s *structure, fields []*field) error {
		s.fields = nil
		for _, f := range fields {
			x, err := newMember(s, f)
			if err != nil {
				return fmt.Errorf("%s: %w", f.Name, err)
			}
			if x.in.none() {
				continue // of versions that Kafka has dropped
			}
			target := x
			if x.kind == kindArray {
				target = x.elem
			}
			if target.kind == kindStruct {
				name := strings.TrimPrefix(f.Type, "[]")
				sub := byName[name]
				if sub == nil {
					sub = &structure{msg: m, name: name, goName: structGoName(m.goName, name), in: noVersions, flex: *m.Flexible}
					byName[name] = sub
					m.structs = append(m.structs, sub)
				}
				// A struct used twice is built for the hull of its uses, or a
				// use would lack fields.
				sub.in = sub.in.hull(x.in)
				if defs[name] == nil {
					return fmt.Errorf("%s: no definition", f.Type)
				}
				if err := build(sub, defs[name]); err != nil {
					return err
				}
				target.sub = sub
			}
			if x.kind == kindStruct && (!x.tagged.none() || !x.ignore && x.in != s.in) {
				markCompared(x.sub)
			}
			s.fields = append(s.fields, x)
		}
		return nil
	}
	m.top = &structure{msg: m, name: m.Name, goName: m.goName, in: m.Valid, flex: *m.Flexible}
	m.structs = []*structure{m.top}
	return build(m.top, m.Fields)
}

func markCompared(s *structure) {
	s.compared = true
	for _, f := range s.fields {
		if f.kind == kindStruct {
			markCompared(f.sub)
		}
	}
}

func collect(fields []*field, defs map[string][]*field) {
	for _, f := range fields {
		if f.Fields != nil {
			defs[strings.TrimPrefix(f.Type, "[]")] = f.Fields
		}
		collect(f.Fields, defs)
	}
}

func newMember(s *structure, f *field) (*member, error) {
	x := &member{owner: s, name: f.Name, goName: goName(f.Name), nullable: noVersions, tagged: noVersions, ignore: f.Ignorable}
	if n := renamed[s.name+"."+f.Name]; n != "" {
		x.goName = n
	}
	if f.Flexible != nil {
		return nil, fmt.Errorf("flexible versions of its own")
	}
	if f.Tagged != nil {
		if f.Tag == nil {
			return nil, fmt.Errorf("tagged without a tag")
		}
		x.tagged, x.tag = f.Tagged.and(s.in), *f.Tag
	}
	switch {
	case f.Versions != nil:
		x.in = f.Versions.and(s.in)
	case f.Tagged != nil:
		x.in = x.tagged
	default:
		return nil, fmt.Errorf("no versions")
	}
	if !x.tagged.none() && x.tagged != x.in {
		return nil, fmt.Errorf("tagged in %s of %s: not supported", x.tagged, x.in)
	}
	if f.Nullable != nil {
		x.nullable = f.Nullable.and(x.in)
	}
	if f.Default != nil && string(f.Default) != "null" {
		x.def = string(f.Default)
		if x.def[0] == '"' {
			if err := json.Unmarshal(f.Default, &x.def); err != nil {
				return nil, err
			}
		}
	}
	elem, isArray := strings.CutPrefix(f.Type, "[]")
	x.typ, x.kind = elem, kindOf(elem)
	if x.typ == "records" {
		x.def = "null"
	}
	if isArray {
		x.elem = &member{owner: s, name: f.Name, goName: x.goName, typ: elem, kind: x.kind, in: x.in, nullable: noVersions, tagged: noVersions}
		x.kind = kindArray
	}
	if x.kind == kindStruct && !x.nullable.none() && x.nullable != x.in {
		return nil, fmt.Errorf("struct that is null in some versions only: not supported")
	}
	if x.kind == kindInt {
		var err error
		if x.def, err = literal(x.typ, x.def); err != nil {
			return nil, err
		}
	}
	return x, nil
}

func kindOf(t string) kind {
	switch t {
	case "bool":
		return kindBool
	case "uuid":
		return kindUUID
	case "string":
		return kindString
	case "bytes", "records":
		return kindBytes
	}
	if _, ok := fixed[t]; ok {
		return kindInt
	}
	return kindStruct
}

func (m *message) fileName() string {
	switch base := snake(m.goName); {
	case m.cluster:
		return "metadata_" + strings.TrimSuffix(base, "_record") + "_gen.go"
	case strings.HasPrefix(m.Type, "coordinator-"):
		return "coordinator_" + strings.TrimSuffix(strings.TrimSuffix(base, "_record_key"), "_record_value") + "_gen.go"
	case m.Type == "request" || m.Type == "response":
		return "api_" + strings.TrimSuffix(strings.TrimSuffix(base, "_request"), "_response") + "_gen.go"
	default:
		return "data_" + base + "_gen.go"
	}
}

// goMessageName is Kafka's name, but for the coordinators' records: Kafka's
// OffsetCommitKey, a record's key, would be the key of the OffsetCommit API.
func goMessageName(m *message) string {
	n := goName(m.Name)
	switch m.Type {
	case "coordinator-key":
		return strings.TrimSuffix(n, "Key") + "RecordKey"
	case "coordinator-value":
		return strings.TrimSuffix(n, "Value") + "RecordValue"
	}
	return n
}

// structGoName is message + struct, once.
func structGoName(message, name string) string {
	n := goName(name)
	if strings.HasPrefix(n, message) {
		return n
	}
	return message + n
}

// goName capitalises and spells ID and URL as Go does.
func goName(s string) string {
	s = strings.ToUpper(s[:1]) + s[1:]
	for _, w := range []string{"Id", "Url"} {
		s = respell(s, w)
	}
	return s
}

// respell upper-cases the word w, or its plural, where it is a word of its own.
func respell(s, w string) string {
	for i := 0; i+len(w) <= len(s); i++ {
		rest := strings.TrimPrefix(s[i+len(w):], "s")
		if s[i:i+len(w)] == w && (rest == "" || unicode.IsUpper(rune(rest[0]))) {
			s = s[:i] + strings.ToUpper(w) + s[i+len(w):]
		}
	}
	return s
}

func snake(s string) string {
	s = strings.ReplaceAll(s, "KRaft", "Kraft")
	var b strings.Builder
	for i, c := range s {
		if unicode.IsUpper(c) && i > 0 && (!unicode.IsUpper(rune(s[i-1])) || i+1 < len(s) && unicode.IsLower(rune(s[i+1])) && s[i+1] != 's') {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// literal checks and returns the default of a number.
func literal(goType, def string) (string, error) {
	if def == "" {
		return "0", nil
	}
	if goType == "float64" {
		_, err := strconv.ParseFloat(def, 64)
		return def, err
	}
	n, err := strconv.ParseInt(def, 0, 64)
	return strconv.FormatInt(n, 10), err
}
