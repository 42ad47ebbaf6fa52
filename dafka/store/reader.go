package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/mesh"
	"github.com/barnabas-log/barnabas/internal/storelog"
	"github.com/barnabas-log/barnabas/internal/zmtp"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// readBytes is how much of a log is read for one answer, before it is another's
// turn.
const readBytes = 512 << 10

// reader is the node that answers: see [mesh.Desk].
type reader struct {
	*mesh.Desk
	logs *storelog.Logs
	log  *slog.Logger

	// Those of run.
	buf        []byte
	complained time.Time // When it was last said that records cannot be read.
}

func newReader(logs *storelog.Logs, address, writer string, log *slog.Logger) *reader {
	machine := fabric.NewReader(fabric.ReaderOptions{Address: address, Writer: writer})
	r := &reader{Desk: mesh.NewDesk(machine), logs: logs, log: log}
	for _, p := range logs.Partitions() {
		r.holds(p)
	}
	logs.Watch(r.holds)
	return r
}

// holds is told what a log has. What does not begin at 0 has lost its beginning,
// here or at all other stores: who asks for it is told so.
func (r *reader) holds(p *storelog.Partition) {
	r.Lock()
	defer r.Unlock()
	if end := p.End(); end > 0 {
		r.Machine.Holds(p.Number, p.Partition, 0, p.Start(), end)
	}
}

// run answers until ctx ends.
func (r *reader) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.Bell:
		}
		for r.Turn(ctx, r.source) && ctx.Err() == nil {
		}
	}
}

// source is the log of a partition.
func (r *reader) source(number int) func(*mesh.Answer) {
	return func(a *mesh.Answer) { // Without the lock, which those who change logs want.
		if log := r.logs.Log(r.logs.Partition(number)); log != nil {
			r.answer(log, a)
		}
	}
}

// answer reads records and sends them.
func (r *reader) answer(log *commitlog.Log, a *mesh.Answer) {
	from := model.Offset(a.Read.First)
	batches, err := r.read(log, from)
	large := false
	for x := range records(batches, from, from+model.Offset(a.Read.Count), &err) {
		next := a.Expected()
		if at := uint64(x.Offset); at > next {
			if next == a.Read.First {
				a.Gap = at
			}
			break // Who wants what is behind the gap asks again, and is told.
		}
		large = large || len(x.Value) > zmtp.MaxCopied
		if !a.Add(x.Value) {
			break
		}
	}
	a.Flush()
	r.complain(&a.Read, err)
	if large {
		r.buf = nil // The socket has it: frames that long are not copied.
	}
}

// records are those of batches from an offset on and before end, up to the first
// that is damaged, which sets err.
func records(batches []byte, from, end model.Offset, err *error) iter.Seq[record.Record] {
	return func(yield func(record.Record) bool) {
		for len(batches) > 0 && *err == nil {
			var b record.Batch
			if b, batches, *err = record.Next(batches); *err == nil && b.ComputeCRC() != b.CRC() {
				*err = fmt.Errorf("%w: checksum of the batch at %d", record.ErrCorrupt, b.BaseOffset())
			}
			if *err != nil {
				return
			}
			for x, bad := range b.Records(0) {
				if *err = bad; bad != nil || x.Offset >= end || x.Offset >= from && !yield(x) {
					return
				}
			}
		}
	}
}

// complainInterval is how often it is said that records cannot be read: who needs
// them asks again and again.
const complainInterval = time.Minute

// complain says that records cannot be read. Other stores may have them. That
// retention was faster than the asker is no reason.
func (r *reader) complain(read *fabric.Read, err error) {
	if err == nil || errors.Is(err, commitlog.ErrOutOfRange) || time.Since(r.complained) < complainInterval {
		return
	}
	r.complained = time.Now()
	r.log.Error("records cannot be read", "topic", read.Subject, "producer", read.Address, "partition", read.Number, "err", err)
}

// read returns batches from the one that has an offset on.
func (r *reader) read(log *commitlog.Log, from model.Offset) ([]byte, error) {
	v, err := log.Read(from, log.End(), readBytes, true)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	b, err := v.Bytes(r.buf)
	if cap(b) <= 2*readBytes {
		r.buf = b[:0]
	}
	return b, err
}
