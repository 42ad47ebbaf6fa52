package replicas

import (
	"container/heap"

	"github.com/barnabas-log/barnabas/internal/partition"
)

// queue orders partitions by a time, the earliest first: each stands in it once
// at most. A look at what is due costs nothing for what is not, however many
// partitions there are.
type queue struct {
	items heapItems
}

type queued struct {
	p  *partition.Partition
	at int64 // Milliseconds since 1970.
}

// heapItems is what package heap sees.
type heapItems struct {
	list  []queued
	place map[*partition.Partition]int
}

func newQueue() queue { return queue{heapItems{place: map[*partition.Partition]int{}}} }

// set puts a partition at a time, whether it was there or not.
func (q *queue) set(p *partition.Partition, at int64) {
	if i, ok := q.items.place[p]; ok {
		q.items.list[i].at = at
		heap.Fix(&q.items, i)
		return
	}
	heap.Push(&q.items, queued{p, at})
}

func (q *queue) remove(p *partition.Partition) {
	if i, ok := q.items.place[p]; ok {
		heap.Remove(&q.items, i)
	}
}

// takeFirst takes the earliest out; false if there is none that is not after
// the time.
func (q *queue) takeFirst(notAfter int64) (queued, bool) {
	if len(q.items.list) == 0 || q.items.list[0].at > notAfter {
		return queued{}, false
	}
	return heap.Pop(&q.items).(queued), true
}

func (h *heapItems) Len() int           { return len(h.list) }
func (h *heapItems) Less(i, j int) bool { return h.list[i].at < h.list[j].at }

func (h *heapItems) Swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	h.place[h.list[i].p], h.place[h.list[j].p] = i, j
}

func (h *heapItems) Push(x any) {
	h.place[x.(queued).p] = len(h.list)
	h.list = append(h.list, x.(queued))
}

func (h *heapItems) Pop() any {
	n := len(h.list) - 1
	x := h.list[n]
	h.list[n] = queued{}
	h.list = h.list[:n]
	delete(h.place, x.p)
	return x
}
