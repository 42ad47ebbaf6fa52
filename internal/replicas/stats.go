package replicas

import (
	"sync/atomic"
	"time"
)

// Stats counts what the disks did.
type Stats struct {
	Flushes    atomic.Uint64
	FlushNanos atomic.Uint64
}

func (s *Stats) flushed(d time.Duration) {
	s.Flushes.Add(1)
	s.FlushNanos.Add(uint64(max(d, 0)))
}

// Stats returns the counters.
func (r *Replicas) Stats() *Stats { return &r.stats }

// Totals are sums over all partitions.
type Totals struct {
	Partitions, Offline int
	Bytes               int64
}

// Totals sums up what this node has.
func (r *Replicas) Totals() Totals {
	var t Totals
	r.mu.RLock()
	t.Partitions = len(r.mu.parts)
	for _, x := range r.mu.parts {
		if x.err != nil {
			t.Offline++
		}
	}
	r.mu.RUnlock()
	r.each(func(x *replica) {
		if x.Err() != nil {
			t.Offline++
		}
		t.Bytes += x.Log().Size()
	})
	return t
}
