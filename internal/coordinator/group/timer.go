package group

import (
	"container/heap"
	"time"
)

// alarm says what a timer is for.
type alarm uint8

const (
	// joinAlarm ends the time that members have for joining again, or one step
	// of the delay before a group's first generation.
	joinAlarm alarm = iota
	// syncAlarm ends the time for SyncGroup of a classic group.
	syncAlarm
	// pendingAlarm ends the wait for one who was given a member id.
	pendingAlarm
	// sessionAlarm ends a member's session.
	sessionAlarm
	// revokeAlarm ends the time for giving up partitions (KIP-848).
	revokeAlarm
	// rejoinAlarm and resyncAlarm end the time that a classic member of a
	// consumer group has for JoinGroup and SyncGroup.
	rejoinAlarm
	resyncAlarm
	// regexAlarm calls for a step of resolving regular expressions.
	regexAlarm
	// sweepAlarm calls for a step of looking for what has expired.
	sweepAlarm
)

// timer rings once. Putting it off costs nothing: the heap finds out when the
// old moment comes. So a heartbeat does not depend on how many members there are.
// All moments are durations since the machine was loaded.
type timer struct {
	alarm  alarm
	group  string
	member string
	set    bool
	at     time.Duration
	queued time.Duration // Where the heap has it; not after at while set.
	place  int           // In the heap, plus one; 0 is nowhere.
	order  uint64        // Of those that are due together, the one that was queued first.
}

// timers are those that are queued, the earliest first.
type timers struct {
	heap  []*timer
	count uint64
}

// start lets t ring at a moment, instead of any other.
func (s *timers) start(t *timer, at time.Duration) {
	t.set, t.at = true, at
	switch {
	case t.place == 0:
		s.count++
		t.queued, t.order = at, s.count
		heap.Push(s, t)
	case at < t.queued:
		t.queued = at
		heap.Fix(s, t.place-1)
	}
}

// stop lets t not ring.
func (s *timers) stop(t *timer) {
	if t == nil {
		return
	}
	t.set = false
	if t.place > 0 {
		heap.Remove(s, t.place-1)
	}
}

// due takes out the first timer whose time has come, nil if there is none.
func (s *timers) due(now time.Duration) *timer {
	for len(s.heap) > 0 && s.heap[0].queued <= now {
		t := s.heap[0]
		if t.at > now { // It was put off.
			t.queued = t.at
			heap.Fix(s, 0)
			continue
		}
		t.set = false
		heap.Pop(s)
		return t
	}
	return nil
}

// next is when due should be asked again.
func (s *timers) next() (time.Duration, bool) {
	if len(s.heap) == 0 {
		return 0, false
	}
	return s.heap[0].queued, true
}

// Len, Less, Swap, Push and Pop are the heap's.
func (s *timers) Len() int { return len(s.heap) }

func (s *timers) Less(i, j int) bool {
	a, b := s.heap[i], s.heap[j]
	return a.queued < b.queued || a.queued == b.queued && a.order < b.order
}

func (s *timers) Swap(i, j int) {
	s.heap[i], s.heap[j] = s.heap[j], s.heap[i]
	s.heap[i].place, s.heap[j].place = i+1, j+1
}

func (s *timers) Push(x any) {
	t := x.(*timer)
	s.heap = append(s.heap, t)
	t.place = len(s.heap)
}

func (s *timers) Pop() any {
	t := s.heap[len(s.heap)-1]
	s.heap[len(s.heap)-1] = nil
	s.heap = s.heap[:len(s.heap)-1]
	t.place = 0
	return t
}
