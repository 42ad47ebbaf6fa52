// Package histogram counts how long things took. It knows buckets; it must
// never know what took the time, or who shows it.
package histogram

import (
	"sync/atomic"
	"time"
)

// bounds are the upper ends of the buckets: from what a request takes in
// memory to what makes clients give up. They are the same everywhere, so that
// times can be compared and added.
var bounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	1 * time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	1 * time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// Times counts durations. The zero Times is ready, and anybody may use it at
// any time.
type Times struct {
	counts [len(bounds) + 1]atomic.Uint64
	nanos  atomic.Uint64
}

// Observe counts one duration; a negative one, of a clock that was set, is 0.
func (t *Times) Observe(d time.Duration) {
	d = max(d, 0)
	i := 0
	for i < len(bounds) && d > bounds[i] { // Most are in the first few.
		i++
	}
	t.counts[i].Add(1)
	t.nanos.Add(uint64(d))
}

// Counts returns what was counted so far.
func (t *Times) Counts() Counts {
	var c Counts
	for i := range t.counts {
		c.each[i] = t.counts[i].Load()
	}
	c.Sum = time.Duration(t.nanos.Load())
	return c
}

// Counts is what a Times had counted at one moment.
type Counts struct {
	each [len(bounds) + 1]uint64
	Sum  time.Duration
}

// Add adds what somebody else counted.
func (c *Counts) Add(o Counts) {
	for i := range c.each {
		c.each[i] += o.each[i]
	}
	c.Sum += o.Sum
}

// Total is how many durations were counted.
func (c *Counts) Total() uint64 {
	n := uint64(0)
	for _, x := range c.each {
		n += x
	}
	return n
}

// Buckets returns how many durations were at most so many seconds, for every
// bound.
func (c *Counts) Buckets() map[float64]uint64 {
	out := make(map[float64]uint64, len(bounds))
	n := uint64(0)
	for i, b := range bounds {
		n += c.each[i]
		out[b.Seconds()] = n
	}
	return out
}
