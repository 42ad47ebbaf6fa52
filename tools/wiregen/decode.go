package main

import "fmt"

func (w writer) readFrom(s *structure) {
	w.p("\nfunc (m *%s) readFrom(r *Reader, version int16) {", s.goName)
	w.declareFlexible(s)
	for _, f := range s.fields {
		cond := condition(f.in, s.in)
		switch {
		case !f.tagged.none():
			w.setDefault(f)
		case cond == "":
			w.readField(f)
		default:
			w.p("if %s {", cond)
			w.readField(f)
			w.p("} else {")
			w.setDefault(f)
			w.p("}")
		}
	}
	w.readTags(s)
	w.p("}")
}

// readField reads a field that the version has.
func (w writer) readField(f *member) {
	x, compact := "m."+f.goName, f.owner.compact()
	nullable := expression(f.nullable, f.in)
	switch f.kind {
	case kindBytes:
		w.p("%s = r.blob(%s, %s)", x, compact, nullable)
	case kindString:
		if f.pointer() {
			w.p("%s = r.textPtr(%s, %s)", x, compact, nullable)
		} else {
			w.p("%s = r.Text(%s)", x, compact)
		}
	case kindStruct:
		if !f.pointer() {
			w.p("%s.readFrom(r, version)", x)
			return
		}
		if f.tagged.none() {
			w.p("if r.Int8() < 0 {")
		} else {
			w.p("if r.Uvarint() == 0 {")
		}
		w.p("%[1]s = nil\n} else {\n%[1]s = allocate[%[2]s](r)\n%[1]s.readFrom(r, version)\n}", x, f.sub.goName)
	case kindArray:
		w.readArray(f, nullable)
	default:
		w.p("%s = r.%s()", x, fixed[f.typ].method)
	}
}

func (w writer) readArray(f *member, nullable string) {
	x, compact := "m."+f.goName, f.owner.compact()
	length := fmt.Sprintf("r.arrayLen(%s, %s, %s)", compact, nullable, f.least())
	if nullable == "false" {
		w.p("%[1]s = sized(r, %[1]s, %s)", x, length)
	} else {
		w.p("if n := %s; n < 0 {\n%[2]s = nil\n} else {\n%[2]s = sized(r, %[2]s, n)\n}", length, x)
	}
	w.p("for i := range %s {", x)
	switch f.elem.kind {
	case kindStruct:
		w.p("%s[i].readFrom(r, version)", x)
	case kindString:
		w.p("%s[i] = r.Text(%s)", x, compact)
	case kindBytes:
		w.p("%s[i] = r.blob(%s, false)", x, compact)
	default:
		w.p("%s[i] = r.%s()", x, fixed[f.elem.typ].method)
	}
	// A fixed-size element cannot fail: its length has been checked.
	if _, ok := fixed[f.elem.typ]; !ok {
		w.p("if r.failed() {\nreturn\n}")
	}
	w.p("}")
}

func (w writer) readTags(s *structure) {
	compact := s.compact()
	if compact == "false" {
		return
	}
	if compact == "flexible" {
		w.p("if flexible {")
		defer w.p("}")
	}
	tagged := s.tagged()
	if len(tagged) == 0 {
		w.p("r.SkipTags()")
		return
	}
	w.p("for n := r.tagCount(); n > 0 && !r.failed(); n-- {\ntag, size := r.tag()\nswitch tag {")
	for _, f := range tagged {
		w.p("case %d:", f.tag)
		if cond := condition(f.tagged, s.in.and(s.flex)); cond != "" {
			w.p("if !(%s) {\nr.fail(\"tag that the version lacks\")\nreturn\n}", cond)
		}
		w.p("end := r.enter(size)")
		w.readField(f)
		w.p("r.leave(end)")
	}
	w.p("default:\nr.skip(size)\n}\n}")
}

// least is the Go expression for the fewest bytes that an element of array f
// takes.
func (f *member) least() string {
	s := f.owner
	classic, flexible := -1, -1
	for v := f.in.lo; v <= f.in.hi; v++ {
		isFlexible := !s.flex.and(versions{v, v}).none()
		n := f.elem.leastAt(v, isFlexible)
		if at := map[bool]*int{false: &classic, true: &flexible}[isFlexible]; *at < 0 || n < *at {
			*at = n
		}
	}
	switch {
	case classic < 0 || classic == flexible:
		return fmt.Sprint(flexible)
	case flexible < 0:
		return fmt.Sprint(classic)
	}
	return fmt.Sprintf("either(flexible, %d, %d)", flexible, classic)
}

// leastAt is the fewest bytes that f takes in a version that has it.
func (f *member) leastAt(version int, flexible bool) int {
	switch f.kind {
	case kindString:
		if flexible {
			return 1
		}
		return 2
	case kindBytes, kindArray:
		if flexible {
			return 1
		}
		return 4
	case kindStruct:
		if f.pointer() {
			return 1
		}
		return f.sub.leastAt(version, flexible)
	}
	return fixed[f.typ].size
}

func (s *structure) leastAt(version int, flexible bool) int {
	n := 0
	if flexible {
		n = 1 // the count of tagged fields
	}
	for _, f := range s.fields {
		if f.tagged.none() && !f.in.and(versions{version, version}).none() {
			n += f.leastAt(version, flexible)
		}
	}
	return n
}
