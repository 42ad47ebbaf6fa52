package commitlog

import (
	"bytes"
	"math"

	"github.com/barnabas-log/barnabas/record"
)

// batch returns what is left of a batch: none, itself (same), or another, of atMost
// bytes if it can. The rules are those of Kafka's Cleaner.
func (p *pass) batch(b record.Batch, atMost int64) (out record.Batch, same bool, err error) {
	spent, err := p.spent(b)
	if err != nil {
		return nil, false, err
	}
	horizon, set := b.DeleteHorizon()
	due := set && horizon <= p.o.Now.UnixMilli()
	// A marker stays for readers that may still be at its transaction's records,
	// although those are gone.
	discard := spent && (!b.IsControl() || due)
	keepEmpty := p.mustKeep(b)
	if discard {
		if keepEmpty {
			return p.emptied(b)
		}
		return nil, false, nil
	}
	keep := func(record.Item) bool { return true }
	if !b.IsControl() {
		keep = func(i record.Item) bool { return p.keepItem(i, set, due) }
	}
	o := record.SiftOptions{Horizon: p.horizon(), Marker: spent && b.IsControl()}
	sifted, r, err := p.sieve.Sift(p.sifted[:0], b, o, keep)
	if err == nil && int64(len(sifted)) > atMost {
		// A segment that is as large as can be has no room for horizons, which make
		// batches larger: another pass sets them.
		o.Horizon = record.NoTimestamp
		sifted, r, err = p.sieve.Sift(sifted[:0], b, o, keep)
	}
	if err != nil {
		return nil, false, err
	}
	p.sifted = sifted[:0]
	p.done.RecordsRead += int64(r.Read)
	p.done.RecordsKept += int64(r.Kept)
	switch {
	case r.Same:
		return b, true, nil
	case r.Kept == 0 && keepEmpty:
		return p.emptied(b)
	}
	return sifted, false, nil
}

// spent follows the transactions: it says whether a batch was aborted, or a
// marker has nothing left that it ends.
func (p *pass) spent(b record.Batch) (bool, error) {
	if b.IsControl() {
		return p.txns.control(b)
	}
	return p.txns.data(b), nil
}

// mustKeep says whether a batch stays even when nothing is left in it: the last
// of a producer has its sequence, or a marker its epoch, and the one at the
// commit point says how far the log goes.
func (p *pass) mustKeep(b record.Batch) bool {
	if last, ok := p.producers[b.ProducerID()]; ok {
		if last.Offset >= 0 && b.LastOffset() == last.Offset || last.Offset < 0 && b.IsControl() && b.ProducerEpoch() == last.Epoch {
			return true
		}
	}
	return b.End() == p.o.Committed
}

// keepItem says whether a record of a batch whose delete horizon is set, and
// due, stays.
func (p *pass) keepItem(i record.Item, set, due bool) bool {
	if i.Offset > p.latest {
		return true
	}
	if i.Key == nil {
		p.done.Keyless++
		return false
	}
	if i.Tombstone && set && due {
		return false
	}
	return i.Offset >= p.o.Map.Get(i.Key)
}

// horizon is the delete horizon that is set in this pass; one that no clock
// reaches is none.
func (p *pass) horizon() int64 {
	now, after := p.o.Now.UnixMilli(), p.o.DeleteRetention.Milliseconds()
	if p.o.DeleteRetention == math.MaxInt64 || after > math.MaxInt64-now {
		return record.NoTimestamp
	}
	return now + after
}

func (p *pass) emptied(b record.Batch) (record.Batch, bool, error) {
	p.sifted = record.AppendEmptied(p.sifted[:0], b)
	return p.sifted, bytes.Equal(p.sifted, b), nil
}
