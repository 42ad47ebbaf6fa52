package api

// places finds where a key came first in a request, and so merges what a
// client names twice. Few keys are searched one by one, since most requests
// name a few partitions and must not cost a map; many are hashed, so that a
// hostile request costs no quadratic time.
type places[K comparable] struct {
	few  []K
	many map[K]int
	n    int
}

// fewPlaces is about where a map becomes faster than looking at all.
const fewPlaces = 16

// at returns the place of k, in the order of first mention, and whether k is
// new.
func (p *places[K]) at(k K) (place int, isNew bool) {
	if p.many == nil {
		for i := range p.few {
			if p.few[i] == k {
				return i, false
			}
		}
		if len(p.few) < fewPlaces {
			p.few = append(p.few, k)
			p.n++
			return p.n - 1, true
		}
		p.many = make(map[K]int, 4*fewPlaces)
		for i, k := range p.few {
			p.many[k] = i
		}
	}
	if i, ok := p.many[k]; ok {
		return i, false
	}
	p.many[k] = p.n
	p.n++
	return p.n - 1, true
}

// reset forgets all keys: they may alias a frame.
func (p *places[K]) reset() {
	clear(p.few)
	p.few, p.many, p.n = p.few[:0], nil, 0
}
