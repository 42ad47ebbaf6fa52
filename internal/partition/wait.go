package partition

import (
	"slices"
	"sync/atomic"

	"github.com/barnabas-log/barnabas/model"
)

// Waker is somebody who waits. Wake may be called more often than needed, and
// late; it must not block.
type Waker interface{ Wake() }

// commitWait waits for the commit point to reach an offset.
type commitWait struct {
	end model.Offset
	who Waker
}

// Need counts down the bytes that a fetch of several partitions still lacks.
// It wakes its fetch when they have come, or when something happened that
// needs a look.
type Need struct {
	who    Waker
	bytes  atomic.Int64
	Stable bool // The fetch reads committed transactions only.
}

// NewNeed returns a need of so many bytes, over all partitions it waits at.
func NewNeed(who Waker, bytes int64, stable bool) *Need {
	n := &Need{who: who, Stable: stable}
	n.bytes.Store(bytes)
	return n
}

// take counts bytes that have become readable.
func (n *Need) take(bytes int64) bool { return n.bytes.Add(-bytes) <= 0 }

// waiters are those who wait at one partition. All methods are called under
// the partition's lock and return whom to wake after it.
type waiters struct {
	commits []commitWait // By end, as the appends came.
	reads   []*Need
}

// woken collects wakers while the lock is held. Its array is enough for the
// usual case without a heap allocation.
type woken struct {
	list  []Waker
	array [4]Waker
	then  func() // Nil, or what else waits for the lock: seldom.
}

func (w *woken) add(who Waker) {
	if w.list == nil {
		w.list = w.array[:0]
	}
	w.list = append(w.list, who)
}

// wake calls them all; the lock has been given back.
func (w *woken) wake() {
	for _, who := range w.list {
		who.Wake()
	}
	if w.then != nil {
		w.then()
	}
}

// committed releases those who waited for what is committed now.
func (s *waiters) committed(to model.Offset, w *woken) {
	n := 0
	for n < len(s.commits) && s.commits[n].end <= to {
		w.add(s.commits[n].who)
		n++
	}
	if n > 0 {
		rest := copy(s.commits, s.commits[n:])
		clear(s.commits[rest:])
		s.commits = s.commits[:rest]
	}
}

// stableGain is what readers of committed transactions gain when others do.
type stableGain int8

const (
	gainNone  stableGain = iota
	gainSame             // The same bytes.
	gainOther            // Something; how much is not known.
)

// readable tells readers of bytes that have become visible, and those of
// committed transactions of what became visible to them.
func (s *waiters) readable(bytes int64, stable stableGain, w *woken) {
	s.reads = slices.DeleteFunc(s.reads, func(n *Need) bool {
		if n.Stable && stable == gainNone {
			return false
		}
		if !(n.Stable && stable == gainOther) && !n.take(bytes) {
			return false
		}
		w.add(n.who)
		return true
	})
}

// everybody releases all, because the partition is no longer what it was.
func (s *waiters) everybody(w *woken) {
	for _, c := range s.commits {
		w.add(c.who)
	}
	s.commits = nil
	s.noReaders(w)
}

// noReaders releases those who wait for data.
func (s *waiters) noReaders(w *woken) {
	for _, n := range s.reads {
		w.add(n.who)
	}
	s.reads = nil
}

func (s *waiters) forgetCommit(who Waker) {
	s.commits = slices.DeleteFunc(s.commits, func(c commitWait) bool { return c.who == who })
}

func (s *waiters) forgetRead(n *Need) {
	s.reads = slices.DeleteFunc(s.reads, func(m *Need) bool { return m == n })
}
