package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// writeAPIs writes the keys and the descriptions of all requests.
func writeAPIs(buf *bytes.Buffer, messages []*message) {
	requests := selected(messages, func(m *message) bool { return m.Type == "request" })
	w := writer{buf}
	w.p("\n// Keys of requests. Those that [LookupAPI] does not find have no version left in Kafka.\nconst (")
	for _, m := range requests {
		w.p("%sKey Key = %d", goName(m.apiName()), *m.APIKey)
	}
	w.p(")\n\n// lastKey is the highest key.\nconst lastKey Key = %d", *requests[len(requests)-1].APIKey)
	w.p("\nfunc keyName(k Key) string {\nswitch k {")
	for _, m := range requests {
		w.p("case %sKey:\nreturn %q", goName(m.apiName()), m.apiName())
	}
	w.p("}\nreturn \"\"\n}")
	w.p("\n// LookupAPI describes the requests with that key.\nfunc LookupAPI(k Key) (API, bool) {\nswitch k {")
	for _, m := range requests {
		if m.Valid.none() {
			continue
		}
		highest, flexible := m.Valid.hi, -1
		if m.LatestUnstable {
			highest--
		}
		if !m.Flexible.and(m.Valid).none() {
			flexible = m.Flexible.lo
		}
		var on []string
		for _, l := range m.Listeners {
			on = append(on, "On"+strings.ToUpper(l[:1])+l[1:])
		}
		w.p("case %sKey:", goName(m.apiName()))
		w.p("return API{k, %q, %d, %d, %t, %d, %s, func() Request { return New%s() }}, true", m.apiName(), m.Valid.lo, highest, m.LatestUnstable, flexible, strings.Join(on, "|"), m.goName)
	}
	w.p("}\nreturn API{}, false\n}")
}

func selected(messages []*message, want func(*message) bool) []*message {
	var s []*message
	for _, m := range messages {
		if want(m) {
			s = append(s, m)
		}
	}
	slices.SortFunc(s, func(a, b *message) int { return cmp.Compare(*a.APIKey, *b.APIKey) })
	return s
}

// writeRecordIndex writes what finds the struct of a record by its type, and of
// any message by its name.
func writeRecordIndex(buf *bytes.Buffer, messages []*message) {
	w := writer{buf}
	records := selected(messages, func(m *message) bool { return m.cluster })
	w.p("\n// Types of the records of the cluster metadata log.\nconst (")
	for _, m := range records {
		w.p("%sType MetadataRecordType = %d", m.goName, *m.APIKey)
	}
	w.p(")\n\nfunc metadataRecordName(t MetadataRecordType) string {\nswitch t {")
	for _, m := range records {
		w.p("case %sType:\nreturn %q", m.goName, m.Name)
	}
	w.p("}\nreturn \"\"\n}")
	w.p("\n// NewMetadataRecord returns a record of that type with defaults, or nil if there is none.")
	w.p("func NewMetadataRecord(t MetadataRecordType) MetadataRecord {\nswitch t {")
	for _, m := range records {
		w.p("case %sType:\nreturn New%s()", m.goName, m.goName)
	}
	w.p("}\nreturn nil\n}")
	for _, c := range []string{"Group", "Transaction", "Share"} {
		w.coordinatorIndex(c, messages)
	}
	w.p("\n// MessageNames returns Kafka's names of all messages and records, sorted.\nfunc MessageNames() []string {\nreturn []string{")
	present := slices.DeleteFunc(slices.Clone(messages), func(m *message) bool { return m.Valid.none() })
	for _, m := range present {
		w.p("%q,", m.Name)
	}
	w.p("}\n}\n\n// NewMessage returns the message or record that Kafka calls by that name, with defaults, or nil if there is none.")
	w.p("func NewMessage(name string) Message {\nswitch name {")
	for _, m := range present {
		w.p("case %q:\nreturn New%s()", m.Name, m.goName)
	}
	w.p("}\nreturn nil\n}")
}

func (w writer) coordinatorIndex(c string, messages []*message) {
	of := func(kind string) []*message {
		return selected(messages, func(m *message) bool { return m.coordinator == c && m.Type == "coordinator-"+kind })
	}
	keys, values := of("key"), of("value")
	w.p("\n// Types of the records of the %s coordinator.\nconst (", strings.ToLower(c))
	for _, m := range keys {
		w.p("%sType int16 = %d", strings.TrimSuffix(m.goName, "Key"), *m.APIKey)
	}
	w.p(")\n\n// New%[1]sKey returns the key of the %[2]s coordinator's records of that type, with defaults, or nil if there is none.", c, strings.ToLower(c))
	w.p("func New%sKey(recordType int16) CoordinatorKey {\nswitch recordType {", c)
	for _, m := range keys {
		w.p("case %d:\nreturn New%s()", *m.APIKey, m.goName)
	}
	w.p("}\nreturn nil\n}")
	w.p("\n// New%[1]sValue returns the value of the %[2]s coordinator's records of that type, with defaults, or nil if there is none.", c, strings.ToLower(c))
	w.p("func New%sValue(recordType int16) Message {\nswitch recordType {", c)
	for _, m := range values {
		w.p("case %d:\nreturn New%s()", *m.APIKey, m.goName)
	}
	w.p("}\nreturn nil\n}")
}

// writeErrors writes the error codes from the lines of file.
func writeErrors(buf *bytes.Buffer, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var rows [][]string
	for line := range strings.Lines(string(text)) {
		row := strings.SplitN(strings.TrimRight(line, "\n"), "\t", 4)
		if len(row) != 4 {
			return fmt.Errorf("%s: %q: want 4 columns", file, line)
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return fmt.Errorf("%s: empty", file)
	}
	w := writer{buf}
	w.p("\n// Kafka's error codes.\nconst (")
	for _, r := range rows {
		w.p("%s ErrorCode = %s", camel(r[1]), r[0])
	}
	w.p(")\n\nfunc (e ErrorCode) describe() (name, message string, retriable bool) {\nswitch e {")
	for _, r := range rows {
		w.p("case %s:\nreturn %q, %s, %s", camel(r[1]), r[1], strconv.Quote(r[3]), r[2])
	}
	w.p("}\nreturn \"\", \"\", false\n}")
	w.p("\n// ErrorCodes returns all of Kafka's error codes, in ascending order.\nfunc ErrorCodes() []ErrorCode {\nreturn []ErrorCode{")
	for _, r := range rows {
		w.p("%s,", camel(r[1]))
	}
	w.p("}\n}")
	return nil
}

// camel turns UNKNOWN_TOPIC_ID into UnknownTopicID.
func camel(s string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(strings.ToLower(s), "_") {
		b.WriteString(goName(part))
	}
	return b.String()
}
