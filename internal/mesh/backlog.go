package mesh

import (
	"sync"

	"github.com/barnabas-log/barnabas/internal/zmtp"
)

// Backlog is what a store has received and not yet stored: batches of which its
// [fabric.Writer] has contents. Whoever calls it has the lock of the machine.
type Backlog struct {
	Most   int           // What Bytes may be, but for the last batch.
	held   []*zmtp.Batch // Those of which the machine has contents.
	bytes  int           // Of held.
	room   sync.Cond     // Tells that held is empty, that urgent is 0, or that it is over.
	urgent int           // Answers that wait: they go before what is published.
	over   bool
}

// NewBacklog returns an empty one, with the lock of the machine.
func NewBacklog(l sync.Locker, most int) *Backlog {
	b := &Backlog{Most: most}
	b.room.L = l
	return b
}

// Bytes is how much is held.
func (b *Backlog) Bytes() int { return b.bytes }

// Await waits until there is room for more. It reports false if it was closed.
func (b *Backlog) Await(urgent bool) bool {
	if urgent {
		b.urgent++
		defer func() { b.urgent--; b.room.Broadcast() }()
	}
	for !b.over && (b.bytes >= b.Most || !urgent && b.urgent > 0) {
		b.room.Wait()
	}
	return !b.over
}

// Add holds a batch.
func (b *Backlog) Add(batch *zmtp.Batch) {
	b.held = append(b.held, batch)
	b.bytes += batch.Bytes()
}

// Take returns all that is held, to be given to Release when it is stored. What
// it returned before is used again.
func (b *Backlog) Take(before []*zmtp.Batch) []*zmtp.Batch {
	all := b.held
	b.held, b.bytes = before[:0], 0
	b.room.Broadcast()
	return all
}

// Drop lets go of all that is held.
func (b *Backlog) Drop() { b.held = Release(b.Take(nil)) }

// Close lets those go who wait.
func (b *Backlog) Close() {
	b.over = true
	b.room.Broadcast()
}

// Release gives batches back, and returns their slice, empty.
func Release(batches []*zmtp.Batch) []*zmtp.Batch {
	for _, b := range batches {
		b.Release()
	}
	clear(batches)
	return batches[:0]
}
