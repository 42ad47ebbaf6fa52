package lint

import (
	"fmt"
	"strings"
)

// Floors says where each package lives.
type Floors map[string]Place

// Place is a package's line in floors.txt.
type Place struct {
	Height   int    // The number of lines below.
	Name     string // The floor's name.
	Machine  bool
	TestOnly bool
}

// ParseFloors reads floors.txt.
func ParseFloors(text string) (Floors, error) {
	floors := Floors{}
	height := 0
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		for _, w := range words[1:] {
			p := Place{Height: height, Name: words[0], Machine: strings.HasSuffix(w, "*"), TestOnly: strings.HasSuffix(w, "!")}
			dir := strings.TrimRight(w, "*!")
			if _, twice := floors[dir]; twice {
				return nil, fmt.Errorf("lint: floors: %s stands on two floors", dir)
			}
			floors[dir] = p
		}
		height++
	}
	return floors, nil
}

// checkFloors refuses packages without a floor and imports of the same or a
// higher floor. Tests may import their own floor too: the package they test,
// and its neighbours as fixtures.
func checkFloors(t *Tree, floors Floors) (found []Finding) {
	for dir, p := range t.Packages {
		self, ok := floors[dir]
		if !ok {
			found = append(found, Finding{"floors", dir, 0, "has no line in internal/lint/floors.txt"})
			continue
		}
		for _, f := range p.Files {
			for _, imported := range f.imports() {
				found = append(found, checkImport(f, self, imported, floors)...)
			}
		}
	}
	return found
}

func checkImport(f *File, self Place, imported string, floors Floors) []Finding {
	to, ok := inModule(imported)
	if !ok {
		return nil
	}
	place := floors[to] // A package without a floor has been reported as such.
	switch {
	case place.TestOnly && !f.Test && !self.TestOnly:
		return []Finding{{"floors", f.Path, 0, "imports " + to + ", which only tests may"}}
	case place.Height < self.Height, f.Test && (place.Height == self.Height || place.TestOnly):
		return nil
	}
	return []Finding{{"floors", f.Path, 0, fmt.Sprintf("is on floor %s and imports %s of floor %s", self.Name, to, place.Name)}}
}
