package metrics

import (
	"regexp"
	"slices"
	"strings"
)

// query is what a PromQL expression names: metrics, and the labels that it matches or groups each by.
type query struct {
	metrics []string
	labels  []string
}

// A parser of PromQL would be a dependency heavier than the broker. What is needed of the language is little: an identifier is a
// metric unless it is a function, a keyword, a label in braces, or a label in the list after by, without, on, ignoring and the
// like.
var (
	tokens   = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[a-zA-Z_:][a-zA-Z0-9_:]*|\[[^\]]*\]|[0-9][0-9a-zA-Z.]*|\S`)
	word     = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	grouping = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}
	keywords = []string{"and", "or", "unless", "bool", "offset", "atan2", "inf", "nan", "start", "end"}
)

// parse finds what an expression names.
func parse(expr string) query {
	var q query
	all := tokens.FindAllString(expr, -1)
	at := func(i int) string {
		if i < len(all) {
			return all[i]
		}
		return ""
	}
	for i := 0; i < len(all); i++ {
		switch t := all[i]; {
		case t == "{":
			i = q.matchers(all, i+1)
		case slices.Contains(grouping, t):
			if at(i+1) == "(" {
				i = q.list(all, i+2)
			}
		case !word.MatchString(t) || slices.Contains(keywords, strings.ToLower(t)) || at(i+1) == "(":
		case at(i+1) == "by" || at(i+1) == "without": // An aggregation with its labels first.
		default:
			q.metrics = append(q.metrics, t)
		}
	}
	return q
}

// matchers reads {label="x", …}.
func (q *query) matchers(all []string, i int) int {
	for ; i < len(all) && all[i] != "}"; i++ {
		if word.MatchString(all[i]) && i+1 < len(all) && strings.HasPrefix("=!~", all[i+1][:1]) || i+1 < len(all) && all[i+1] == "!" {
			q.labels = append(q.labels, all[i])
		}
	}
	return i
}

// list reads (label, …).
func (q *query) list(all []string, i int) int {
	for ; i < len(all) && all[i] != ")"; i++ {
		if word.MatchString(all[i]) {
			q.labels = append(q.labels, all[i])
		}
	}
	return i
}
