package bridge

import (
	"context"
	"errors"
	"time"

	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/mesh"
	"github.com/barnabas-log/barnabas/internal/partition"
)

// lookEvery is how often it is looked where logs begin: retention moves that.
const lookEvery = 5 * time.Second

// reader is the node that answers, and by which topics are published: see
// [mesh.Desk].
type reader struct {
	*mesh.Desk
	b *Bridge
	o fabric.ReaderOptions

	// With the lock.
	table  *table
	places map[*part]int // In the table: the machine's numbers.

	pages pages // Those of run.
}

func newReader(b *Bridge, address, writer string) *reader {
	o := fabric.ReaderOptions{Address: address, Writer: writer}
	return &reader{Desk: mesh.NewDesk(fabric.NewReader(o)), b: b, o: o, table: &table{}, places: map[*part]int{}}
}

// follow takes a new table. Where partitions are others now, the machine begins
// anew; who waits for an answer asks again.
func (r *reader) follow(t *table) {
	r.Lock()
	defer r.Unlock()
	from := len(r.table.parts)
	if t.anew {
		r.Machine, r.places, from = fabric.NewReader(r.o), map[*part]int{}, 0
	}
	r.table = t
	for i, p := range t.parts[from:] {
		r.places[p] = from + i
		r.holdsLocked(p)
	}
}

// holds looks what a log has.
func (r *reader) holds(p *part) {
	r.Lock()
	defer r.Unlock()
	r.holdsLocked(p)
}

// holdsLocked tells the machine. What does not begin at 0 has lost its beginning,
// here or at all other stores: who asks for it is told so.
func (r *reader) holdsLocked(p *part) {
	place, known := r.places[p]
	if !known || p.replica == nil {
		return
	}
	if start, end := p.holds(); end > 0 {
		r.Machine.Holds(place, p.Partition, 0, start, end)
	}
}

// look looks what all logs have.
func (r *reader) look() {
	r.Lock()
	parts := r.table.parts
	r.Unlock()
	for _, p := range parts {
		r.holds(p)
	}
}

// run answers until ctx ends.
func (r *reader) run(ctx context.Context) {
	looks := time.NewTicker(lookEvery)
	defer looks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-looks.C:
			r.b.look()
			r.look()
		case <-r.Bell:
		}
		for r.Turn(ctx, r.source) && ctx.Err() == nil {
		}
	}
}

// source is the partition with the machine's number.
func (r *reader) source(number int) func(*mesh.Answer) {
	p := r.table.parts[number]
	return func(a *mesh.Answer) { r.answer(p, a) }
}

// answer reads records and sends them.
func (r *reader) answer(p *part, a *mesh.Answer) {
	first := a.Read.First
	gap, err := r.pages.read(p, first, first+uint64(a.Read.Count), func(_ uint64, content []byte) bool { return a.Add(content) })
	a.Flush()
	if a.Nothing() {
		a.Gap = gap
	}
	if a.Moved = errors.Is(err, partition.ErrOutOfRange); a.Moved {
		r.holds(p)
	}
}
