package commitlog

import "github.com/barnabas-log/barnabas/model"

// maxPlaces is how many places a log remembers: a few tailing readers, the ends
// of the last appends, and the commit point among them. 32 places are 768 bytes.
const maxPlaces = 32

// place says that a batch whose first offset is at or after offset, and all of
// whose predecessors lie before it, begins at pos of a segment.
type place struct {
	offset, segment model.Offset
	pos             int64
}

// places remembers where recent reads and appends ended, so that sequential
// readers need no index. The oldest is forgotten first.
type places struct {
	ring [maxPlaces]place
	n    int
}

func (p *places) add(at place) {
	last := &p.ring[(p.n+maxPlaces-1)%maxPlaces]
	if p.n > 0 && last.offset == at.offset {
		*last = at
		return
	}
	p.ring[p.n%maxPlaces] = at
	p.n++
}

// find returns the place of an offset, the newest if there are two.
func (p *places) find(offset model.Offset) (place, bool) {
	for i := p.n - 1; i >= max(0, p.n-maxPlaces); i-- {
		if at := p.ring[i%maxPlaces]; at.offset == offset {
			return at, true
		}
	}
	return place{}, false
}

// forget drops everything, after a truncation.
func (p *places) forget() { p.n = 0 }
