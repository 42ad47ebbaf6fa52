package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Finding is one breach of one rule.
type Finding struct {
	Rule  string
	Place string // A directory, a file, or file:identifier.
	Line  int    // 0: the whole; for the rule "long": its lines.
	What  string
}

// String gives the finding on one line, the way compilers do.
func (f Finding) String() string {
	file, id, _ := strings.Cut(f.Place, ":")
	if f.Line > 0 {
		file = fmt.Sprintf("%s:%d", file, f.Line)
	}
	if id != "" {
		file += ": " + id
	}
	return fmt.Sprintf("%s %s (%s)", file, f.What, f.Rule)
}

// Check applies every rule.
func Check(t *Tree, floors Floors) []Finding {
	found := slices.Concat(checkFloors(t, floors), checkMachines(t, floors), checkPackages(t), checkFiles(t), checkVariables(t))
	slices.SortFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Place, b.Place), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.What, b.What))
	})
	return slices.Compact(found)
}

// Excuse takes out what exceptions.txt lets pass, and adds a finding for each
// of its lines that excuses nothing.
func Excuse(found []Finding, exceptions string) ([]Finding, error) {
	for line := range strings.Lines(exceptions) {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		limit := 0
		if words[0] == "long" && len(words) > 2 {
			var err error
			if limit, err = strconv.Atoi(words[2]); err != nil {
				return nil, fmt.Errorf("lint: exceptions: long wants a number of lines: %q", line)
			}
			words = slices.Delete(words, 2, 3)
		}
		if len(words) < 3 {
			return nil, fmt.Errorf("lint: exceptions: want RULE PLACE REASON: %q", line)
		}
		before := len(found)
		found = slices.DeleteFunc(found, func(f Finding) bool {
			return f.Rule == words[0] && f.Place == words[1] && (limit == 0 || f.Line <= limit)
		})
		if len(found) == before {
			found = append(found, Finding{"exception", words[1], 0, "is excused from " + words[0] + " and need not be, or not enough: internal/lint/exceptions.txt"})
		}
	}
	return found, nil
}
