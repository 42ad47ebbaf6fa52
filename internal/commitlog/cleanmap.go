package commitlog

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/barnabas-log/barnabas/model"
)

// slotBytes is what one key costs in an OffsetMap: as much as in Kafka, so that
// log.cleaner.dedupe.buffer.size means the same number of keys.
const slotBytes = 24

// slot has 128 bits of a key's hash and one more than the offset of its last
// record; 0 is no key.
type slot struct {
	high, low uint64
	next      model.Offset
}

// OffsetMap says where the last record of each key is, in memory that does not
// depend on how many keys there are or how long. It knows keys by their SHA-256, cut to 128
// bits: no two different keys are taken for one. (A faster hash of 64
// bits would mix up a pair in every hundred thousand logs of 50 million keys,
// and lose a record each time.)
//
// Collisions are resolved by looking on, and keys that are further from their place
// push those away that are nearer (Robin Hood hashing), because at nine tenths
// full the search for a key that is not there would else look at fifty slots.
type OffsetMap struct {
	maxSlots int
	load     float64
	slots    []slot
	used     int
	// limit is how many keys there may be.
	limit int
}

// NewOffsetMap returns a map that takes no more than so many bytes and fills
// no more than a share of them (log.cleaner.io.buffer.load.factor). It takes
// nothing before Reset.
func NewOffsetMap(bytes int64, load float64) (*OffsetMap, error) {
	m := &OffsetMap{maxSlots: int(bytes / slotBytes), load: load}
	if float64(m.maxSlots)*load <= 1 || m.maxSlots < 2 {
		return nil, fmt.Errorf("commitlog: offset map of %d bytes, filled to %v: no room for a key", bytes, load)
	}
	return m, nil
}

// Reset empties the map and makes room for so many keys, or as many as its
// memory allows.
func (m *OffsetMap) Reset(keys int64) {
	want := float64(max(keys, 1))/m.load + 1
	n := m.maxSlots
	if want < float64(n) {
		n = max(int(want), 2)
	}
	if n <= cap(m.slots) {
		m.slots = m.slots[:n]
		clear(m.slots)
	} else {
		m.slots = make([]slot, n)
	}
	m.used, m.limit = 0, max(1, min(int(float64(n)*m.load), n-1))
}

// Release gives the memory back.
func (m *OffsetMap) Release() { m.slots, m.used, m.limit = nil, 0, 0 }

// Use is how full the map is, of what it may take: 0 to 1.
func (m *OffsetMap) Use() float64 {
	return float64(m.used) / (float64(m.maxSlots) * m.load)
}

func (m *OffsetMap) slot(key []byte, o model.Offset) slot {
	sum := sha256.Sum256(key)
	return slot{binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:]), o + 1}
}

// home is where a key belongs.
func (m *OffsetMap) home(s *slot) int {
	at, _ := bits.Mul64(s.high, uint64(len(m.slots)))
	return int(at)
}

// distance is how far from its place the key in slot i is.
func (m *OffsetMap) distance(i int) int {
	d := i - m.home(&m.slots[i])
	if d < 0 {
		d += len(m.slots)
	}
	return d
}

// find returns the slot of a key, or where it is to be put, and how far that is
// from its place.
func (m *OffsetMap) find(s *slot) (i, distance int, found bool) {
	for i = m.home(s); ; distance++ {
		at := &m.slots[i]
		if at.high == s.high && at.low == s.low && at.next != 0 {
			return i, distance, true
		}
		if at.next == 0 || m.distance(i) < distance {
			return i, distance, false
		}
		if i++; i == len(m.slots) {
			i = 0
		}
	}
}

// Put notes a record of a key. It reports false, and notes nothing, if the key
// is new and the map full.
func (m *OffsetMap) Put(key []byte, o model.Offset) bool {
	s := m.slot(key, o)
	i, distance, found := m.find(&s)
	if found {
		m.slots[i].next = s.next
		return true
	}
	if m.used >= m.limit {
		return false
	}
	m.used++
	for ; m.slots[i].next != 0; distance++ {
		if d := m.distance(i); d < distance {
			m.slots[i], s, distance = s, m.slots[i], d
		}
		if i++; i == len(m.slots) {
			i = 0
		}
	}
	m.slots[i] = s
	return true
}

// Get is the offset of the last record noted of a key, or model.NoOffset.
func (m *OffsetMap) Get(key []byte) model.Offset {
	if m.used == 0 {
		return model.NoOffset
	}
	s := m.slot(key, 0)
	i, _, found := m.find(&s)
	if !found {
		return model.NoOffset
	}
	return m.slots[i].next - 1
}
