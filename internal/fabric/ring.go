package fabric

// ring has the contents of consecutive records.
type ring struct {
	first  uint64   // The sequence of the oldest.
	slots  [][]byte // The one of sequence s is at s % len(slots), a power of two.
	length int
	bytes  int
}

func (r *ring) len() int    { return r.length }
func (r *ring) end() uint64 { return r.first + uint64(r.length) }

// at is the content of a sequence between first and end.
func (r *ring) at(sequence uint64) []byte { return r.slots[r.slot(sequence)] }

func (r *ring) slot(sequence uint64) uint64 { return sequence & uint64(len(r.slots)-1) }

func (r *ring) push(content []byte) {
	if r.length == len(r.slots) {
		r.resize(max(16, 2*len(r.slots)))
	}
	r.slots[r.slot(r.end())] = content
	r.length++
	r.bytes += len(content)
}

// drop forgets the n oldest.
func (r *ring) drop(n int) {
	for range n {
		at := r.slot(r.first)
		r.bytes -= len(r.slots[at])
		r.slots[at] = nil
		r.first++
		r.length--
	}
	if small := len(r.slots) / 4; small >= minShrink && r.length < small/2 {
		r.resize(small)
	}
}

// minShrink is the size below which memory is kept.
const minShrink = 1 << 12

func (r *ring) resize(size int) {
	old := *r
	r.slots = make([][]byte, size)
	for s := old.first; s < old.end(); s++ {
		r.slots[r.slot(s)] = old.at(s)
	}
}
