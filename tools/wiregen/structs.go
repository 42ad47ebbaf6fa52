package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// writer prints lines of Go; go/format indents them.
type writer struct{ *bytes.Buffer }

func (w writer) p(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

// condition is the Go expression for "version is in v", known to be in within:
// "" if it always is, "false" if never.
func condition(v, within versions) string {
	x := v.and(within)
	switch {
	case x.none():
		return "false"
	case x == within:
		return ""
	case x.hi == within.hi:
		return fmt.Sprintf("version >= %d", x.lo)
	case x.lo == within.lo:
		return fmt.Sprintf("version <= %d", x.hi)
	case x.lo == x.hi:
		return fmt.Sprintf("version == %d", x.lo)
	}
	return fmt.Sprintf("version >= %d && version <= %d", x.lo, x.hi)
}

// expression is condition with "true" for always.
func expression(v, within versions) string {
	if c := condition(v, within); c != "" {
		return c
	}
	return "true"
}

// compact is the Go expression for "the version is flexible".
func (s *structure) compact() string {
	if e := expression(s.flex, s.in); e == "true" || e == "false" {
		return e
	}
	return "flexible"
}

func (w writer) declareFlexible(s *structure) {
	if s.compact() == "flexible" {
		w.p("flexible := %s", expression(s.flex, s.in))
	}
}

func (f *member) pointer() bool {
	return !f.nullable.none() && (f.kind == kindString || f.kind == kindStruct)
}

func (f *member) goType() string {
	t := f.typ
	switch f.kind {
	case kindUUID:
		t = "UUID"
	case kindBytes:
		t = "[]byte"
	case kindStruct:
		t = f.sub.goName
	case kindArray:
		return "[]" + f.elem.goType()
	}
	if f.pointer() {
		return "*" + t
	}
	return t
}

// facts is the comment of a field.
func (f *member) facts() string {
	facts := []string{"versions " + clip(f.in, f.owner)}
	if !f.nullable.none() {
		facts = append(facts, "nullable "+clip(f.nullable, f.owner))
	}
	switch {
	case f.def == "null" && f.nullable.none(): // records, of which Kafka has no other default
	case f.kind == kindString && f.def != "" && f.def != "null":
		facts = append(facts, "default "+strconv.Quote(f.def))
	case f.def != "" && f.def != "0" && f.def != "false":
		facts = append(facts, "default "+f.def)
	}
	if !f.tagged.none() {
		facts = append(facts, fmt.Sprintf("tag %d", f.tag))
	}
	if f.ignore {
		facts = append(facts, "ignorable")
	}
	return strings.Join(facts, ", ")
}

// clip shows v as open where it reaches the last version.
func clip(v versions, s *structure) string {
	if v.hi >= s.msg.Valid.hi {
		return fmt.Sprintf("%d+", v.lo)
	}
	return v.String()
}

func writeMessage(buf *bytes.Buffer, m *message) {
	w := writer{buf}
	w.p("\n// %s is %s", m.goName, m.description())
	w.declare(m.top)
	w.p("\n// New%[1]s returns a %[1]s with Kafka's defaults.\nfunc New%[1]s() *%[1]s {\nm := new(%[1]s)\nm.Reset()\nreturn m\n}", m.goName)
	w.identity(m)
	w.p("\n// AppendTo implements [Message].\nfunc (m *%s) AppendTo(dst []byte, version int16) ([]byte, error) {", m.goName)
	w.p("if version < %d || version > %d {\nreturn dst, errVersion(%q, version)\n}\nreturn m.appendTo(dst, version)\n}", m.Valid.lo, m.Valid.hi, m.Name)
	w.p("\n// ReadFrom implements [Message].\nfunc (m *%s) ReadFrom(r *Reader, version int16) error {", m.goName)
	w.p("if version < %d || version > %d {\nreturn errVersion(%q, version)\n}\nm.readFrom(r, version)\nreturn r.Err()\n}", m.Valid.lo, m.Valid.hi, m.Name)
	w.methods(m.top)
	for _, s := range m.structs[1:] {
		w.p("\n// %s is Kafka's %s, inside %s.", s.goName, s.name, m.goName)
		w.declare(s)
		w.methods(s)
	}
}

func (m *message) description() string {
	what := "Kafka's " + m.Name
	switch {
	case m.Type == "request" || m.Type == "response":
		what = fmt.Sprintf("Kafka's %s %s, key %d", m.apiName(), m.Type, *m.APIKey)
	case m.cluster:
		what = fmt.Sprintf("a cluster metadata record, type %d", *m.APIKey)
	case m.coordinator != "":
		what = fmt.Sprintf("the %s of a record of the %s coordinator, type %d", strings.TrimPrefix(m.Type, "coordinator-"), strings.ToLower(m.coordinator), *m.APIKey)
	}
	flexible := "never flexible"
	if f := m.Flexible.and(m.Valid); !f.none() {
		flexible = fmt.Sprintf("flexible from %d", m.Flexible.lo)
	}
	return fmt.Sprintf("%s: versions %s, %s.", what, m.Valid, flexible)
}

func (m *message) apiName() string {
	return strings.TrimSuffix(strings.TrimSuffix(m.Name, "Request"), "Response")
}

func (w writer) declare(s *structure) {
	w.p("type %s struct {", s.goName)
	for _, f := range s.fields {
		w.p("%s %s // %s", f.goName, f.goType(), f.facts())
	}
	w.p("}")
}

// identity writes the methods that say what a message is.
func (w writer) identity(m *message) {
	switch {
	case m.Type == "request":
		w.p("\n// Key implements [Request].\nfunc (*%s) Key() Key { return %sKey }", m.goName, goName(m.apiName()))
		w.p("\n// NewResponse implements [Request].\nfunc (*%s) NewResponse() Response { return New%sResponse() }", m.goName, goName(m.apiName()))
	case m.Type == "response":
		w.p("\n// Key implements [Response].\nfunc (*%s) Key() Key { return %sKey }", m.goName, goName(m.apiName()))
	case m.cluster:
		w.p("\n// MetadataRecordType implements [MetadataRecord].\nfunc (*%s) MetadataRecordType() MetadataRecordType { return %sType }", m.goName, m.goName)
	case m.Type == "coordinator-key":
		w.p("\n// CoordinatorRecordType implements [CoordinatorKey].\nfunc (*%s) CoordinatorRecordType() int16 { return %d }", m.goName, *m.APIKey)
	}
}

func (w writer) methods(s *structure) {
	w.reset(s)
	w.appendTo(s)
	w.readFrom(s)
	if s.msg.Type == "response" && (s == s.msg.top || s.hasErrors()) {
		w.eachError(s)
	}
	if s.compared {
		w.isDefault(s)
	}
}

func (w writer) reset(s *structure) {
	if s == s.msg.top {
		w.p("\n// Reset implements [Message].")
	} else {
		w.p("\n// Reset sets all fields to Kafka's defaults and keeps the memory of slices.")
	}
	w.p("func (m *%s) Reset() {", s.goName)
	for _, f := range s.fields {
		w.setDefault(f)
	}
	w.p("}")
}

func (w writer) setDefault(f *member) {
	x := "m." + f.goName
	switch f.kind {
	case kindInt:
		w.p("%s = %s", x, f.def)
	case kindBool:
		w.p("%s = %t", x, f.def == "true")
	case kindUUID:
		w.p("%s = UUID{}", x)
	case kindString:
		switch {
		case f.def == "null":
			w.p("%s = nil", x)
		case f.pointer():
			w.p("%s = new(%q)", x, f.def)
		default:
			w.p("%s = %q", x, f.def)
		}
	case kindBytes:
		if f.nullable.none() || f.def == "null" {
			w.p("%s = nil", x)
		} else {
			w.p("%s = []byte{}", x)
		}
	case kindStruct:
		switch {
		case f.pointer() && f.def == "null":
			w.p("%s = nil", x)
		case f.pointer():
			w.p("%s = new(%s)\n%s.Reset()", x, f.sub.goName, x)
		default:
			w.p("%s.Reset()", x)
		}
	case kindArray:
		switch {
		case f.def == "null":
			w.p("%s = nil", x)
		case f.nullable.none():
			w.p("%[1]s = %[1]s[:0]", x)
		default:
			w.p("%[1]s = emptied(%[1]s)", x)
		}
	}
}

// notDefault is the Go expression for "f is set".
func (f *member) notDefault() string {
	x := "m." + f.goName
	switch f.kind {
	case kindInt:
		return x + " != " + f.def
	case kindBool:
		if f.def == "true" {
			return "!" + x
		}
		return x
	case kindUUID:
		return x + " != (UUID{})"
	case kindString:
		switch {
		case f.def == "null":
			return x + " != nil"
		case f.pointer():
			return fmt.Sprintf("(%[1]s == nil || *%[1]s != %q)", x, f.def)
		}
		return fmt.Sprintf("%s != %q", x, f.def)
	case kindStruct:
		switch {
		case f.pointer() && f.def == "null":
			return x + " != nil"
		case f.pointer():
			return fmt.Sprintf("(%[1]s == nil || !%[1]s.isDefault())", x)
		}
		return fmt.Sprintf("!%s.isDefault()", x)
	}
	switch { // bytes and arrays
	case f.nullable.none():
		return fmt.Sprintf("len(%s) != 0", x)
	case f.def == "null":
		return x + " != nil"
	}
	return fmt.Sprintf("(%[1]s == nil || len(%[1]s) != 0)", x)
}

func (w writer) isDefault(s *structure) {
	w.p("\nfunc (m *%s) isDefault() bool {", s.goName)
	var terms []string
	for _, f := range s.fields {
		terms = append(terms, f.notDefault())
	}
	w.p("return !(%s)\n}", strings.Join(terms, " ||\n"))
}
