package main

import "strings"

// eachError writes the method that finds the errors in an answer, whole or of
// its parts.
func (w writer) eachError(s *structure) {
	if s == s.msg.top {
		w.p("\n// EachError implements [Response].\nfunc (m *%s) EachError(each func(ErrorCode)) {", s.goName)
	} else {
		w.p("\nfunc (m *%s) eachError(each func(ErrorCode)) {", s.goName)
	}
	for _, f := range s.fields {
		switch x := "m." + f.goName; {
		case f.isCode():
			w.p("if %s != 0 {\neach(ErrorCode(%s))\n}", x, x)
		case f.kind == kindStruct && f.sub.hasErrors() && f.pointer():
			w.p("if %s != nil {\n%s.eachError(each)\n}", x, x)
		case f.kind == kindStruct && f.sub.hasErrors():
			w.p("%s.eachError(each)", x)
		case f.kind == kindArray && f.elem.kind == kindStruct && f.elem.sub.hasErrors():
			w.p("for i := range %s {\n%s[i].eachError(each)\n}", x, x)
		}
	}
	w.p("}")
}

// isCode reports a field that holds an error code.
func (f *member) isCode() bool {
	return f.typ == "int16" && f.kind == kindInt && strings.HasSuffix(f.goName, "ErrorCode")
}

// hasErrors reports whether a structure, or one in it, holds an error code.
func (s *structure) hasErrors() bool {
	for _, f := range s.fields {
		if f.isCode() || f.kind == kindStruct && f.sub.hasErrors() || f.kind == kindArray && f.elem.kind == kindStruct && f.elem.sub.hasErrors() {
			return true
		}
	}
	return false
}
