package partition

import (
	"errors"
	"fmt"
	"math"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/producers"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// Future is a copy of a partition's log in another data directory, on its way to
// take its place (KIP-113). It belongs to one goroutine, the mover's, until it
// has: then it is the partition's log.
type Future struct {
	p         *Partition
	o         Options // Of where it lies.
	log       *commitlog.Log
	producers *producers.State // At its end.
	taken     bool             // The partition's state is at its end now.
	buf       []byte
}

// appendBytes bounds one append of copied batches.
const appendBytes = 256 << 10

// OpenFuture opens a copy, or begins one in an empty directory. What it holds
// and the partition does not, because a crash took it there, is cut.
func OpenFuture(p *Partition, o Options) (*Future, error) {
	f := &Future{p: p, o: o}
	if err := f.open(); err != nil {
		return nil, fmt.Errorf("partition: future of %s: %w", p.ID, err)
	}
	return f, nil
}

func (f *Future) open() (err error) {
	if f.log, err = f.o.openLog(f.snapshot); err != nil {
		return err
	}
	if err = f.align(); err == nil {
		f.producers, err = replayProducers(f.log)
	}
	if err != nil {
		f.log.Close()
	}
	return err
}

// snapshot is called when a segment is rolled: by the copying, or under the
// partition's lock.
func (f *Future) snapshot() []byte {
	if f.taken {
		return f.p.snapshotLocked()
	}
	if f.producers == nil || f.producers.Len() == 0 {
		return nil
	}
	return f.producers.Snapshot(nil)
}

// align cuts the copy back to what the partition has as well. A record is the
// same in both if its epoch is: an epoch is written by one leader once.
func (f *Future) align() error {
	for {
		epochs, err := f.log.Epochs()
		if err != nil || len(epochs) == 0 {
			return err
		}
		last := epochs[len(epochs)-1]
		to := last.Start // The partition lost the epoch as a whole.
		switch epoch, end, err := f.p.Log().EpochEnd(last.Epoch); {
		case err != nil:
			return err
		case epoch == last.Epoch:
			to = end
		}
		if to >= f.log.End() {
			return nil
		}
		if err := f.log.Truncate(max(to, f.log.Start())); err != nil {
			return err
		}
		if to <= f.log.Start() {
			return nil // Nothing is left.
		}
	}
}

// End, Size and Lag tell how far the copy is: the bytes of its segments, and how
// many offsets it lacks.
func (f *Future) End() model.Offset { return f.log.End() }

// Size is the bytes of the copy's segments.
func (f *Future) Size() int64 { return f.log.Size() }

// Copy copies the next batches, so many bytes or one batch at least, and returns
// how many bytes that were; 0 when there is nothing more.
func (f *Future) Copy(atMost int) (int, error) {
	n, err := f.copy(atMost)
	if err != nil {
		return n, fmt.Errorf("partition: copy %s: %w", f.p.ID, err)
	}
	return n, nil
}

func (f *Future) copy(atMost int) (int, error) {
	from := f.p.Log()
	// Retention may have overtaken the copy, or it has not begun.
	at, end := max(f.log.End(), from.Start()), from.End()
	v, err := from.Read(at, end, atMost, true)
	if errors.Is(err, commitlog.ErrOutOfRange) && at < from.Start() {
		return f.copy(atMost) // Retention came between.
	}
	if err != nil {
		return 0, err
	}
	defer v.Close()
	if v.Size() == 0 && at < end {
		return f.copyHole(at, end)
	}
	if f.buf, err = v.Bytes(f.buf); err != nil {
		return 0, err
	}
	if at > f.log.End() {
		if err := f.restart(at); err != nil {
			return 0, err
		}
	}
	return v.Size(), f.append(f.buf)
}

// copyHole makes the copy end where the log ends when nothing is left of what was
// there, because compaction took it and a power cut all that came behind: with
// a batch without records, as compaction leaves it, lest an offset be given
// twice.
func (f *Future) copyHole(at, end model.Offset) (int, error) {
	end = min(end, at+math.MaxInt32) // More does not fit into a batch.
	b := record.NewBuilder(record.BuilderOptions{BaseOffset: at})
	if err := b.AddAt(record.Record{Offset: end - 1, Timestamp: record.NoTimestamp}); err != nil {
		return 0, err
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		return 0, err
	}
	f.buf = record.AppendEmptied(f.buf[:0], batch)
	record.Batch(f.buf).SetLeaderEpoch(model.NoEpoch)
	if at > f.log.End() {
		if err := f.restart(at); err != nil {
			return 0, err
		}
	}
	return len(f.buf), f.append(f.buf)
}

// restart begins the copy at the batch in the buffer or, if there is none, where
// the partition starts.
func (f *Future) restart(at model.Offset) error {
	if len(f.buf) > 0 {
		at = record.Batch(f.buf).BaseOffset()
	}
	f.producers = producers.New(producers.Options{})
	return f.log.TruncateFullyAndStartAt(at)
}

// append appends copied batches, several at a time.
func (f *Future) append(b []byte) error {
	limit := int(min(appendBytes, f.p.config.Load().SegmentBytes))
	for len(b) > 0 {
		n := 0
		for rest := b; len(rest) > 0; {
			batch, tail, err := record.Next(rest)
			if err != nil {
				return err
			}
			if n > 0 && n+len(batch) > limit {
				break
			}
			n, rest = n+len(batch), tail
		}
		if err := f.appendSome(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (f *Future) appendSome(b []byte) error {
	_, err := f.log.AppendAt(b)
	if errors.Is(err, commitlog.ErrTooLarge) {
		// Segments were larger when this batch was written.
		larger := tuned(commitlog.Options{}, f.p.config.Load())
		larger.SegmentBytes = int64(len(b))
		f.log.Tune(larger)
		_, err = f.log.AppendAt(b)
		f.tune()
	}
	for err == nil && len(b) > 0 {
		var batch record.Batch
		if batch, b, err = record.Next(b); err == nil {
			err = applyBatch(f.log, f.producers, batch)
		}
	}
	return err
}

// tune gives the copy the topic's configuration, which may have changed.
func (f *Future) tune() {
	f.log.Tune(tuned(commitlog.Options{}, f.p.config.Load()))
}

// Sync makes durable what was copied.
func (f *Future) Sync() error { return f.log.Sync() }

// Checkpoint makes the copy durable and returns the mark that says so.
func (f *Future) Checkpoint() (commitlog.Mark, error) { return f.log.Checkpoint(f.snapshot()) }

// Rehouse closes the copy, calls rename, and opens it in the directory that has
// the new name. After an error it is closed.
func (f *Future) Rehouse(dir string, mark commitlog.Mark, rename func() error) error {
	if err := f.log.Close(); err != nil {
		return err
	}
	if err := rename(); err != nil {
		return err
	}
	f.o.Dir, f.o.Log.Mark = dir, mark
	log, err := f.o.openLog(f.snapshot)
	if err != nil {
		return err
	}
	f.log = log
	return nil
}

// Take puts the copy in the place of the partition's log, if no more than so
// many bytes are missing, which it copies under the partition's lock. It returns
// the log that was left; the caller syncs the partition before he removes it:
// till then it may be the only one that has all of it on disk.
func (f *Future) Take(atMost int) (left *commitlog.Log, err error) {
	p := f.p
	var w woken
	defer w.wake()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.failed != nil || p.mu.closed {
		return nil, ErrNotLeader
	}
	left = p.Log()
	for copied := 0; f.log.End() < left.End(); {
		n, err := f.copy(atMost)
		if copied += n; err != nil || copied > atMost {
			return nil, err
		}
	}
	if f.log.End() != left.End() {
		return nil, fmt.Errorf("partition: copy of %s ends at %d, the log at %d", p.ID, f.log.End(), left.End())
	}
	if err := f.log.SetStart(left.Start()); err != nil {
		return nil, err
	}
	f.tune()
	f.taken = true
	p.home.Store(newHome(&f.o, f.log))
	p.mu.dirty, p.mu.grown = true, true
	w.then = func() {
		h := p.home.Load()
		h.grown(p)
		h.dirty(p)
	}
	return left, nil
}

// Close closes a copy that has not taken its place.
func (f *Future) Close() error { return f.log.Close() }
