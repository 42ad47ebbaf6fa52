package txn

import (
	"encoding/binary"
	"slices"

	"github.com/barnabas-log/barnabas/internal/producers"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// part is a partition whose leader may lose what is not committed.
type part struct {
	w       *world
	id      model.Partition
	s       *producers.State
	batches []record.Batch
	end, hw model.Offset
	waits   []partWait
}

type partWait struct {
	end  model.Offset
	done func(ok bool)
}

// append returns one past where a batch is. A repeat is where the original is.
func (p *part) append(b record.Batch, o producers.CheckOptions) (model.Offset, error) {
	v, err := p.s.Check(b, o)
	if err != nil {
		p.w.refused++
		return 0, err
	}
	if v.Duplicate {
		return v.LastOffset + 1, nil
	}
	b = slices.Clone(b)
	b.SetBaseOffset(p.end)
	p.s.Apply(b)
	p.batches, p.end = append(p.batches, b), b.End()
	p.check()
	return p.end, nil
}

func (p *part) await(end model.Offset, done func(ok bool)) {
	p.waits = append(p.waits, partWait{end, done})
	p.commit(p.hw)
}

func (p *part) commit(to model.Offset) {
	p.hw = max(p.hw, to)
	p.s.Committed(p.hw)
	p.check()
	var done []func(bool)
	p.waits = slices.DeleteFunc(p.waits, func(w partWait) bool {
		if w.end <= p.hw {
			done = append(done, w.done)
		}
		return w.end <= p.hw
	})
	for _, f := range done {
		p.w.post("", func() { f(true) })
	}
}

// crash loses what is above some offset that is committed at least; the new
// leader knows what the log says.
func (p *part) crash() {
	if p.w.quiet {
		return
	}
	keep := p.hw + model.Offset(p.w.rng.Int64N(int64(p.end-p.hw)+1))
	p.s, p.end = producers.New(producers.Options{}), 0
	kept := p.batches[:0:0]
	for _, b := range p.batches {
		if b.End() <= keep {
			p.s.Apply(b)
			kept, p.end = append(kept, b), b.End()
		}
	}
	p.batches = kept
	p.s.Committed(p.hw)
	waits := p.waits
	p.waits = nil
	for _, x := range waits {
		p.w.post("", func() { x.done(false) })
	}
	p.check()
}

// check compares the stable offset with what the log says.
func (p *part) check() {
	first, stable := map[model.ProducerID]model.Offset{}, p.hw
	for _, b := range p.batches {
		id := b.ProducerID()
		at, open := first[id]
		switch {
		case !b.IsControl() && !open:
			first[id] = b.BaseOffset()
		case b.IsControl() && open:
			if b.BaseOffset() >= p.hw {
				stable = min(stable, at)
			}
			delete(first, id)
		}
	}
	for _, at := range first {
		stable = min(stable, at)
	}
	if got := p.s.Stable(p.hw); got != stable {
		p.w.fatalf("%v is stable up to %d, want %d", p.id, got, stable)
	}
}

// fates tells for each record whether it is committed; of whom is its value.
func (p *part) fates(each func(a int, offset model.Offset, committed bool)) {
	open := map[model.ProducerID][]record.Batch{}
	for _, b := range p.batches {
		id := b.ProducerID()
		if !b.IsControl() {
			open[id] = append(open[id], b)
			continue
		}
		c, err := b.Control()
		if err != nil {
			p.w.fatalf("%v", err)
		}
		for _, x := range open[id] {
			for r := range x.Records(0) {
				each(int(binary.BigEndian.Uint32(r.Value)), x.BaseOffset(), c.Type == record.Commit)
			}
		}
		delete(open, id)
	}
	if len(open) > 0 {
		p.w.fatalf("%v has transactions that hang: %v", p.id, open)
	}
}
