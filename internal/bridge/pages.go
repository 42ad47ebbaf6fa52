package bridge

import (
	"slices"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/zmtp"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// readBytes is how much of a log is read at once.
const readBytes = 512 << 10

// pages reads partitions as the mesh sees them. One goroutine uses it.
type pages struct{ buf []byte }

// page is a piece of a log that is being read.
type page struct {
	p         *part
	next, end model.Offset
	aborted   []commitlog.AbortedTxn
	each      func(sequence uint64, content []byte) bool
	large     bool
	// hole is where the log goes on, of a Dafka producer who left something out.
	hole model.Offset
}

// read gives records from one sequence on and before another to each, in order
// and without holes, until it returns false; not all that there are. Contents are
// valid until the next read, or for ever if one is so long that
// the socket does not copy it. If
// there is nothing at first, and never will be, hole is where the log goes on.
//
// [partition.ErrOutOfRange] says that the log begins later.
func (s *pages) read(p *part, first, end uint64, each func(uint64, []byte) bool) (hole uint64, err error) {
	g := page{p: p, next: model.Offset(first), end: model.Offset(end), each: each}
	r, err := p.replica.Read(partition.Want{
		From: g.next, MaxBytes: readBytes, Isolation: p.isolation(), Believes: model.NoEpoch, LastEpoch: model.NoEpoch, AtLeast: true,
	})
	if err != nil {
		return 0, err
	}
	defer r.View.Close()
	g.end = min(g.end, r.State.Readable(p.isolation()))
	if p.published {
		if g.aborted, err = p.replica.Aborted(g.next, r.View.End()); err != nil {
			return 0, err
		}
	}
	batches, err := r.View.Bytes(s.buf)
	if err != nil {
		return 0, err
	}
	s.keep(batches)
	err = g.batches(batches)
	if g.large {
		s.buf = nil
	}
	if g.next > model.Offset(first) {
		return 0, err
	}
	return uint64(g.hole), err
}

// keep keeps memory for the next read, unless it was uncommonly much.
func (s *pages) keep(b []byte) {
	s.buf = nil
	if cap(b) <= 2*readBytes {
		s.buf = b[:0]
	}
}

func (g *page) batches(rest []byte) (err error) {
	var b record.Batch
	for more := true; more && len(rest) > 0 && g.next < g.end; {
		if b, rest, err = record.Next(rest); err == nil && b.ComputeCRC() != b.CRC() {
			err = record.ErrCorrupt
		}
		if err != nil {
			return err
		}
		if more = !g.visible(b); !more {
			more, err = g.records(b)
		}
		if err != nil {
			return err
		}
		more = more && g.fill(b.End())
	}
	return nil
}

// visible reports whether a batch has records for a client.
func (g *page) visible(b record.Batch) bool {
	return !b.IsControl() && !(b.IsTransactional() && slices.ContainsFunc(g.aborted, func(t commitlog.AbortedTxn) bool {
		return t.ProducerID == b.ProducerID() && t.First <= b.BaseOffset() && b.LastOffset() < t.Last
	}))
}

func (g *page) records(b record.Batch) (more bool, err error) {
	for x, err := range b.Records(0) {
		switch {
		case err != nil:
			return false, err
		case x.Offset < g.next:
			continue
		case !g.fill(x.Offset) || x.Offset >= g.end:
			return false, nil
		}
		g.large = g.large || len(x.Value) > zmtp.MaxCopied
		g.next++
		if !g.each(uint64(x.Offset), x.Value) {
			return false, nil
		}
	}
	return true, nil
}

// fill gives empty records up to where the log goes on, in a partition that we
// publish. In one that we store there is a hole.
func (g *page) fill(to model.Offset) (more bool) {
	if !g.p.published {
		if to > g.next && g.hole == 0 {
			g.hole = to
		}
		return to <= g.next
	}
	for to = min(to, g.end); g.next < to; {
		g.next++
		if !g.each(uint64(g.next-1), nil) {
			return false
		}
	}
	return true
}
