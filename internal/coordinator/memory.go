package coordinator

import "sync/atomic"

// Memory is what the coordinators of a node keep: groups and their members,
// offsets, transactional ids. How much that is strangers decide, with requests
// that are all valid, and so there is a limit for all shards together.
//
// Machines say, roughly, what each change costs. At the limit they refuse what
// would grow; what is there goes on: known members, commits to known partitions,
// leaving, deleting, the end of transactions. A fifth is for the growth of what
// is known, or a client that makes ever new groups would keep the members of
// others from coming back. A log is loaded whatever it takes: it was let in once.
type Memory struct {
	limit   int64
	held    atomic.Int64
	refused atomic.Uint64
	queued  atomic.Int64 // What inputs take that wait for shards.
}

// leastQueued is what inputs may take whatever the limit is: some large requests.
const leastQueued = 16 << 20

// enqueue reports whether an input may wait. One may always, and what has no size.
func (m *Memory) enqueue(bytes int) bool {
	n := int64(bytes)
	if all := m.queued.Add(n); n > 0 && all > n && m.limit > 0 && all > max(m.limit/4, leastQueued) {
		m.queued.Add(-n)
		return false
	}
	return true
}

func (m *Memory) dequeue(bytes int) { m.queued.Add(-int64(bytes)) }

// NewMemory returns memory of which so many bytes may be used; 0 is no limit.
func NewMemory(limit int64) *Memory { return &Memory{limit: limit} }

// Limit is how many bytes may be held; 0 is no limit.
func (m *Memory) Limit() int64 { return m.limit }

// Held is how many bytes are held, roughly.
func (m *Memory) Held() int64 { return m.held.Load() }

// Refused is how often there was no room.
func (m *Memory) Refused() uint64 { return m.refused.Load() }

// Share returns a share for one shard.
func (m *Memory) Share() *Share { return &Share{of: m} }

// Share is what one shard holds. Its goroutine alone uses it. A nil Share counts
// nothing, and has no limit.
type Share struct {
	of   *Memory
	held int64
}

// Add counts bytes that are held from now on, or not any more.
func (s *Share) Add(bytes int) {
	if s != nil && bytes != 0 {
		s.held += int64(bytes)
		s.of.held.Add(int64(bytes))
	}
}

// Fits reports whether so many bytes more may be held, by something that is known
// already or not. Other shards ask at the same time: all together they may be
// above the limit by a request for each.
func (s *Share) Fits(bytes int, known bool) bool {
	if s == nil || bytes <= 0 || s.of.limit <= 0 {
		return true
	}
	limit := s.of.limit
	if !known {
		limit -= limit / 5
	}
	if s.of.held.Load()+int64(bytes) <= limit {
		return true
	}
	s.of.refused.Add(1)
	return false
}

// Release gives all back.
func (s *Share) Release() {
	if s != nil {
		s.Add(-int(s.held))
	}
}
