package main

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// versions is a range, both ends included. It is empty if lo > hi.
type versions struct{ lo, hi int }

var noVersions = versions{1, 0}

func (v versions) none() bool { return v.lo > v.hi }

func (v versions) and(w versions) versions {
	v = versions{max(v.lo, w.lo), min(v.hi, w.hi)}
	if v.none() {
		return noVersions
	}
	return v
}

// hull is the smallest range with both.
func (v versions) hull(w versions) versions {
	switch {
	case v.none():
		return w
	case w.none():
		return v
	}
	return versions{min(v.lo, w.lo), max(v.hi, w.hi)}
}

func (v versions) String() string {
	switch {
	case v.none():
		return "none"
	case v.hi == math.MaxInt16:
		return fmt.Sprintf("%d+", v.lo)
	case v.lo == v.hi:
		return strconv.Itoa(v.lo)
	}
	return fmt.Sprintf("%d-%d", v.lo, v.hi)
}

// UnmarshalJSON reads "3", "3-5", "3+" or "none".
func (v *versions) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s == "none" || s == "" {
		*v = noVersions
		return nil
	}
	lo, hi, isRange := strings.Cut(s, "-")
	if open, ok := strings.CutSuffix(s, "+"); ok {
		lo, hi, isRange = open, strconv.Itoa(math.MaxInt16), true
	}
	if !isRange {
		hi = lo
	}
	var err error
	if v.lo, err = strconv.Atoi(lo); err != nil {
		return err
	}
	v.hi, err = strconv.Atoi(hi)
	return err
}

// message is one definition file.
type message struct {
	APIKey         *int      `json:"apiKey"`
	Type           string    `json:"type"`
	Listeners      []string  `json:"listeners"`
	Name           string    `json:"name"`
	Valid          versions  `json:"validVersions"`
	Flexible       *versions `json:"flexibleVersions"`
	LatestUnstable bool      `json:"latestVersionUnstable"`
	Fields         []*field  `json:"fields"`
	Common         []*field  `json:"commonStructs"`

	cluster     bool   // a record of the cluster metadata log
	coordinator string // whose record it is: Group, Transaction or Share
	goName      string
	top         *structure
	structs     []*structure // top first, then in the order of first use
}

type field struct {
	Name      string          `json:"name"`
	Type      string          `json:"type"`
	Versions  *versions       `json:"versions"`
	Nullable  *versions       `json:"nullableVersions"`
	Tagged    *versions       `json:"taggedVersions"`
	Flexible  *versions       `json:"flexibleVersions"`
	Tag       *int            `json:"tag"`
	Default   json.RawMessage `json:"default"`
	Ignorable bool            `json:"ignorable"`
	Fields    []*field        `json:"fields"`
}

// parse reads a definition, in which lines may be // comments.
func parse(text []byte) (*message, error) {
	lines := strings.Split(string(text), "\n")
	for i, l := range lines {
		if strings.HasPrefix(strings.TrimSpace(l), "//") {
			lines[i] = ""
		}
	}
	m := new(message)
	if err := json.Unmarshal([]byte(strings.Join(lines, "\n")), m); err != nil {
		return nil, err
	}
	if m.Flexible == nil {
		m.Flexible = &versions{1, 0}
	}
	return m, nil
}

// structure is a Go struct to generate: a message or a struct inside it.
type structure struct {
	msg    *message
	name   string // Kafka's
	goName string
	in     versions // where it is used
	flex   versions
	fields []*member
	// compared says that isDefault is needed.
	compared bool
}

// member is a field of a structure, with all defaults filled in.
type member struct {
	owner    *structure
	name     string // Kafka's
	goName   string
	typ      string // Kafka's type, of arrays the element's
	kind     kind
	elem     *member // of an array: how an element looks
	sub      *structure
	in       versions // versions that have it, within those of the structure
	nullable versions
	tagged   versions
	tag      int
	def      string // Kafka's text of the default, "null" for null, "" for none
	ignore   bool
}

type kind int

const (
	kindInt kind = iota // all of fixed size but uuid and bool
	kindBool
	kindUUID
	kindString
	kindBytes
	kindStruct
	kindArray
)

// fixed describes the types of fixed size: method and size in bytes.
var fixed = map[string]struct {
	method string
	size   int
}{
	"int8": {"Int8", 1}, "int16": {"Int16", 2}, "int32": {"Int32", 4}, "int64": {"Int64", 8},
	"uint16": {"Uint16", 2}, "uint32": {"Uint32", 4}, "float64": {"Float64", 8},
	"bool": {"Bool", 1}, "uuid": {"UUID", 16},
}
