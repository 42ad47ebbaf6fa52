package bridge

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// published is a partition with what consumers of the mesh must see of it.
type published struct {
	*cluster
	part *part
	want []string // By sequence.
}

func newPublished(t *testing.T) *published {
	c := newCluster(t)
	x := c.open("/x-0", model.Partition{Topic: "x"}, map[string]string{"durability": "os", "segment.bytes": "1048576"})
	return &published{c, &part{replica: x, published: true}, nil}
}

func (p *published) plain(codec record.Codec, values ...string) {
	p.Helper()
	if _, err := p.part.replica.Append(batch(p.T, record.BuilderOptions{Codec: codec}, values...), true, now); err != nil {
		p.Fatal(err)
	}
	p.want = append(p.want, values...)
}

// transaction appends a batch; what it is worth shows later.
func (p *published) transaction(id model.ProducerID, sequence int32, values ...string) {
	p.Helper()
	pr := &record.Producer{ID: id, Sequence: sequence}
	b := batch(p.T, record.BuilderOptions{Producer: pr, Transactional: true}, values...)
	if _, err := p.part.replica.Append(b, true, now); err != nil {
		p.Fatal(err)
	}
	p.want = append(p.want, values...)
}

func (p *published) end(id model.ProducerID, committed bool) {
	p.Helper()
	if _, err := p.part.replica.AppendMarker(partition.Marker{ProducerID: id, Committed: committed}, now); err != nil {
		p.Fatal(err)
	}
	p.want = append(p.want, "")
}

// read reads from one sequence up to another.
func (p *published) read(s *pages, from, to int) (got []string) {
	p.Helper()
	for from < to {
		was := from
		hole, err := s.read(p.part, uint64(from), uint64(to), func(sequence uint64, content []byte) bool {
			if sequence != uint64(from) {
				p.Fatalf("sequence %d, want %d", sequence, from)
			}
			got = append(got, string(content))
			from++
			return true
		})
		if hole != 0 || err != nil {
			p.Fatalf("at %d: hole %d, %v", from, hole, err)
		}
		if from == was {
			return got
		}
	}
	return got
}

// TestPages: consumers of the mesh see a published partition without holes, and
// nothing of transactions that are open or were aborted. Seeded.
func TestPages(t *testing.T) {
	for seed := range uint64(12) {
		p := newPublished(t)
		r := rand.New(rand.NewPCG(seed, 1))
		open := map[model.ProducerID][]int{} // The sequences of transactions.
		wrote := map[model.ProducerID]int32{}
		for i := range 200 {
			id := model.ProducerID(1 + r.IntN(3))
			values := make([]string, 1+r.IntN(4))
			for j := range values {
				values[j] = fmt.Sprintf("%d.%d%s", i, j, strings.Repeat("x", r.IntN(2)*r.IntN(9000)))
			}
			switch k := r.IntN(4); {
			case k == 0:
				p.plain(record.Codec(r.IntN(5)), values...)
			case k == 1 && len(open[id]) > 0:
				committed := r.IntN(2) == 0
				p.end(id, committed)
				for _, at := range open[id] {
					if !committed {
						p.want[at] = ""
					}
				}
				open[id] = nil
			default:
				for j := range values {
					open[id] = append(open[id], len(p.want)+j)
				}
				p.transaction(id, wrote[id], values...)
				wrote[id] += int32(len(values))
			}
		}
		_, stable := p.part.holds()
		var s pages
		for range 50 {
			from := r.IntN(len(p.want))
			to := from + r.IntN(len(p.want)+10-from)
			got, want := p.read(&s, from, to), p.want[min(from, int(stable)):min(to, int(stable))]
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, from %d to %d of %d: %d records, want %d", seed, from, to, stable, len(got), len(want))
			}
		}
	}
}

// TestPagesOfProducers: what a Dafka producer left out for good is a hole, and what
// retention took is out of range.
func TestPagesOfProducers(t *testing.T) {
	c := newCluster(t)
	c.producers("letters", "A")
	b := c.bridge()
	b.Publish(nil, c.image())
	p := b.mu.table.parts[0]
	k := newKeeper(b)
	run := func(first uint64, contents ...string) fabric.Run {
		r := fabric.Run{Partition: p.Partition, First: first}
		for _, s := range contents {
			r.Contents = append(r.Contents, []byte(s))
		}
		return r
	}
	for _, o := range k.keep(t.Context(), b.mu.table, []fabric.Run{run(5, "f", "g"), run(9, "j")}) {
		if o.err != nil {
			t.Fatal(o.err)
		}
	}
	f := func(first, end uint64, want string, wantHole uint64, wantErr error) {
		t.Helper()
		var s pages
		got := ""
		hole, err := s.read(p, first, end, func(_ uint64, content []byte) bool { got += string(content); return true })
		if got != want || hole != wantHole || !errors.Is(err, wantErr) {
			t.Errorf("from %d to %d: %q, hole %d, %v; want %q, %d, %v", first, end, got, hole, err, want, wantHole, wantErr)
		}
	}
	f(5, 10, "fg", 0, nil)
	f(6, 7, "g", 0, nil)
	f(7, 10, "", 9, nil)
	f(8, 9, "", 9, nil)
	f(9, 10, "j", 0, nil)
	f(10, 11, "", 0, nil)
	f(4, 6, "", 0, partition.ErrOutOfRange)
	if _, err := p.replica.Trim(6); err != nil {
		t.Fatal(err)
	}
	f(5, 10, "", 0, partition.ErrOutOfRange)
	f(6, 10, "g", 0, nil)
}

// TestPagesOfCompacted: what compaction removed comes as empty records, also where
// a read begins or ends in it.
func TestPagesOfCompacted(t *testing.T) {
	c := newCluster(t)
	x := c.open("/x-0", model.Partition{Topic: "x"}, map[string]string{"durability": "os", "dafka.producers": "A"}) // It takes records with holes between.
	p := &published{c, &part{replica: x, published: true}, nil}
	for _, first := range []model.Offset{2, 4, 7, 20} {
		p.want = append(p.want, make([]string, int(first)-len(p.want))...)
		p.want = append(p.want, fmt.Sprint(first), fmt.Sprint(first+1))
		if _, err := x.AppendNumbered(batch(t, record.BuilderOptions{BaseOffset: first}, p.want[first:]...), now); err != nil {
			t.Fatal(err)
		}
	}
	start, end := p.part.holds()
	var s pages
	for from := start; from < end; from++ {
		for to := from; to <= end; to++ {
			if got, want := p.read(&s, int(from), int(to)), p.want[from:to]; !slices.Equal(got, want) {
				t.Errorf("from %d to %d: %q, want %q", from, to, got, want)
			}
		}
	}
}

// TestKeep: runs are committed when keep returns, once each, and what cannot be
// stored is refused with all behind it.
func TestKeep(t *testing.T) {
	c := newCluster(t)
	c.producers("letters", "A", "B")
	b := c.bridge()
	b.Publish(nil, c.image())
	a, other := b.mu.table.parts[0].Partition, b.mu.table.parts[1].Partition
	k := newKeeper(b)
	f := func(p fabric.Partition, first uint64, n int, end uint64, refused bool) {
		t.Helper()
		r := fabric.Run{Partition: p, Number: 3, First: first}
		for i := range n {
			r.Contents = append(r.Contents, fmt.Appendf(nil, "%s %d", p.Address, first+uint64(i)))
		}
		o := k.keep(t.Context(), b.mu.table, []fabric.Run{r})[0]
		if o.number != 3 || o.end != end || !refused && o.committed != end || refused != (o.err != nil) {
			t.Errorf("%d from %d: %+v; want end %d, refused %v", n, first, o, end, refused)
		}
	}
	f(a, 0, 10, 10, false)
	f(a, 0, 5, 10, false) // A crash came between: it is there.
	f(a, 8, 40_000, 40_008, false)
	f(other, 0, 1, 1, false)
	f(fabric.Partition{Subject: "letters", Address: "?"}, 0, 1, 0, true)
	c.fs.SetCapacity(1)
	f(other, 1, 5000, 1, true)
	c.fs.SetCapacity(0)
	f(other, 1, 5000, 5001, false)

	next := uint64(0)
	var s pages
	for next < 40_008 {
		was := next
		if _, err := s.read(b.mu.table.parts[0], next, 40_008, func(sequence uint64, content []byte) bool {
			if want := fmt.Sprintf("A %d", next); sequence != next || string(content) != want {
				t.Fatalf("%d: %q, want %q", sequence, content, want)
			}
			next++
			return true
		}); err != nil || next == was {
			t.Fatal(next, err)
		}
	}
	b.mu.table.parts[0].replica.Fail(errors.New("disk"))
	f(a, 40_008, 1, 40_008, true)
	f(other, 5001, 1, 5002, false)
}
