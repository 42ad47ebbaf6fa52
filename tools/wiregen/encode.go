package main

import "slices"

func (w writer) appendTo(s *structure) {
	w.p("\nfunc (m *%s) appendTo(dst []byte, version int16) ([]byte, error) {", s.goName)
	w.declareFlexible(s)
	if s.nests() {
		w.p("var err error")
	}
	for _, f := range s.fields {
		cond := condition(f.in, s.in)
		tagged := !f.tagged.none()
		switch {
		case cond == "":
			if !tagged {
				w.appendField(f)
			}
		case tagged && !f.ignore:
			w.p("if !(%s) && %s {", cond, f.notDefault())
			w.absent(f)
			w.p("}")
		case tagged:
		default:
			w.p("if %s {", cond)
			w.appendField(f)
			if !f.ignore {
				w.p("} else if %s {", f.notDefault())
				w.absent(f)
			}
			w.p("}")
		}
	}
	w.appendTags(s)
	w.p("return dst, nil\n}")
}

// nests reports whether writing s calls what may fail with err.
func (s *structure) nests() bool {
	return slices.ContainsFunc(s.fields, func(f *member) bool {
		return f.kind == kindStruct || f.kind == kindArray && f.elem.kind == kindStruct
	})
}

func (w writer) absent(f *member) {
	w.p("return dst, errAbsent(%q, %q, version)", f.owner.goName, f.goName)
}

// appendField writes a field that the version has.
func (w writer) appendField(f *member) {
	x, compact := "m."+f.goName, f.owner.compact()
	nullable := !f.nullable.none()
	if nullable && f.kind != kindStruct {
		if cond := condition(f.nullable, f.in); cond != "" {
			w.p("if %s == nil && !(%s) {\nreturn dst, errNull(%q, %q, version)\n}", x, cond, f.owner.goName, f.goName)
		}
	}
	switch f.kind {
	case kindBytes:
		w.p("dst = appendBlob(dst, %s, %s, %t)", x, compact, nullable)
	case kindString:
		if nullable {
			w.p("if %[1]s != nil && len(*%[1]s) > maxTextBytes {", x)
		} else {
			w.p("if len(%s) > maxTextBytes {", x)
		}
		w.p("return dst, errLong(%q, %q, version)\n}", f.owner.goName, f.goName)
		w.p("dst = %s", appendText(x, compact, nullable))
	case kindStruct:
		if !nullable {
			w.appendStruct(x)
			return
		}
		// Kafka marks a null struct with -1, but with 0 where it is tagged.
		null := "0xff"
		if !f.tagged.none() {
			null = "0"
		}
		w.p("if %s == nil {\ndst = append(dst, %s)\n} else {\ndst = append(dst, 1)", x, null)
		w.appendStruct(x)
		w.p("}")
	case kindArray:
		w.appendArray(f)
	default:
		w.p("dst = Append%s(dst, %s)", fixed[f.typ].method, x)
	}
}

func appendText(x, compact string, nullable bool) string {
	switch {
	case compact == "true" && nullable:
		return "AppendCompactNullableString(dst, " + x + ")"
	case compact == "true":
		return "AppendCompactString(dst, " + x + ")"
	case compact == "false" && nullable:
		return "AppendNullableString(dst, " + x + ")"
	case compact == "false":
		return "AppendString(dst, " + x + ")"
	case nullable:
		return "appendTextPtr(dst, " + x + ", flexible)"
	}
	return "appendText(dst, " + x + ", flexible)"
}

func (w writer) appendStruct(x string) {
	w.p("if dst, err = %s.appendTo(dst, version); err != nil {\nreturn dst, err\n}", x)
}

func (w writer) appendArray(f *member) {
	x, compact := "m."+f.goName, f.owner.compact()
	if f.nullable.none() {
		w.p("dst = appendLen(dst, len(%s), %s)", x, compact)
	} else {
		w.p("dst = appendLen(dst, sliceLen(%s), %s)", x, compact)
	}
	switch f.elem.kind {
	case kindStruct:
		w.p("for i := range %s {", x)
		w.appendStruct(x + "[i]")
		w.p("}")
	case kindString:
		w.p("for _, v := range %s {\nif len(v) > maxTextBytes {\nreturn dst, errLong(%q, %q, version)\n}", x, f.owner.goName, f.goName)
		w.p("dst = %s\n}", appendText("v", compact, false))
	case kindBytes:
		w.p("for _, v := range %s {\ndst = appendBlob(dst, v, %s, false)\n}", x, compact)
	default:
		w.p("for _, v := range %s {\ndst = Append%s(dst, v)\n}", x, fixed[f.elem.typ].method)
	}
}

// appendTags writes the section of tagged fields, in the order of their tags.
func (w writer) appendTags(s *structure) {
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
		w.p("dst = AppendNoTags(dst)")
		return
	}
	flexible := s.in.and(s.flex)
	w.p("tags := uint32(0)")
	for _, f := range tagged {
		w.p("if %s {\ntags++\n}", f.sent(flexible))
	}
	w.p("dst = AppendUvarint(dst, tags)")
	for _, f := range tagged {
		w.p("if %s {", f.sent(flexible))
		if d, ok := fixed[f.typ]; ok && f.kind != kindArray {
			w.p("dst = AppendTag(dst, %d, %d)", f.tag, d.size)
			w.appendField(f)
		} else {
			w.p("dst = openTag(dst, %d)\nstart := len(dst)", f.tag)
			w.appendField(f)
			w.p("dst = closeTag(dst, start)")
		}
		w.p("}")
	}
}

func (s *structure) tagged() []*member {
	var tagged []*member
	for _, f := range s.fields {
		if !f.tagged.none() {
			tagged = append(tagged, f)
		}
	}
	slices.SortFunc(tagged, func(a, b *member) int { return a.tag - b.tag })
	return tagged
}

// sent is the Go expression for "the tagged field is written".
func (f *member) sent(within versions) string {
	if cond := condition(f.tagged, within); cond != "" {
		return cond + " && " + f.notDefault()
	}
	return f.notDefault()
}
