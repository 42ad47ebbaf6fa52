package bridge

import (
	"context"
	"errors"
	"time"

	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

const (
	// batchBytes and batchRecords are how much a batch has, unless one record has
	// more.
	batchBytes   = 128 << 10
	batchRecords = 1 << 14
	// keptBytes is how much memory is kept for the next batch.
	keptBytes = 1 << 20
)

// errNoPart says that a run is of a partition that is not here any more.
var errNoPart = errors.New("bridge: the partition is gone")

// outcome is what became of a run.
type outcome struct {
	number int // The writer's.
	part   *part
	// end is one past the last record of the log, committed of those that are
	// committed.
	end, committed uint64
	err            error // Why the run, or its end, was refused.
}

// keeper appends runs to partitions. One goroutine uses it.
type keeper struct {
	b       *Bridge
	builder *record.Builder
	buf     []byte
	bell    bell
	out     []outcome
	waits   []commit
	bad     map[*part]error
	told    time.Time
}

// commit is what a run waits for: nothing if the epoch is NoEpoch.
type commit struct {
	end   model.Offset
	epoch model.Epoch
}

// bell is rung by partitions whose commit point has risen.
type bell chan struct{}

// Wake implements [partition.Waker].
func (b bell) Wake() {
	select {
	case b <- struct{}{}:
	default:
	}
}

func newKeeper(b *Bridge) keeper {
	return keeper{b: b, builder: record.NewBuilder(record.BuilderOptions{}), bell: make(bell, 1), bad: map[*part]error{}}
}

// keep appends runs and waits until they are committed: they are synced together.
// Runs of one partition are in order; when one is refused, so are those behind
// it. The outcomes, one for each run, are valid until the next call.
func (k *keeper) keep(ctx context.Context, t *table, runs []fabric.Run) []outcome {
	k.out, k.waits = k.out[:0], k.waits[:0]
	clear(k.bad)
	for i := range runs {
		r := &runs[i]
		p := t.by[r.Partition]
		w, err := commit{epoch: model.NoEpoch}, errNoPart
		if p != nil && p.replica != nil {
			if err = k.bad[p]; err == nil {
				w, err = k.append(p, r)
				k.bad[p] = err
			}
		}
		k.out, k.waits = append(k.out, outcome{number: r.Number, part: p, err: err}), append(k.waits, w)
	}
	for i := range k.out {
		k.finish(ctx, &k.out[i], k.waits[i], &runs[i])
	}
	return k.out
}

// append appends a run in batches. What the log has already is left out: before a
// restart it was not committed any more.
func (k *keeper) append(p *part, r *fabric.Run) (w commit, err error) {
	next, rest := model.Offset(r.First), r.Contents
	w.epoch, _ = p.replica.Epoch()
	if has := p.replica.Log().End() - next; has > 0 {
		n := min(int(has), len(rest))
		next, rest = next+model.Offset(n), rest[n:]
	}
	w.end = next
	for len(rest) > 0 {
		n := cut(rest)
		b, err := k.batch(next, rest[:n])
		if err != nil {
			return w, err
		}
		a, err := p.replica.AppendNumbered(b, k.b.o.Now())
		if err != nil {
			return w, err
		}
		w.end, w.epoch = a.End, a.Epoch
		next, rest = next+model.Offset(n), rest[n:]
	}
	return w, nil
}

// cut is how many of contents make a batch.
func cut(contents [][]byte) int {
	size := 0
	for i, c := range contents {
		if size += len(c); i > 0 && (size > batchBytes || i == batchRecords) {
			return i
		}
	}
	return len(contents)
}

// batch is valid until the next one.
func (k *keeper) batch(base model.Offset, contents [][]byte) (record.Batch, error) {
	k.builder.Reset(record.BuilderOptions{BaseOffset: base, LeaderEpoch: model.NoEpoch})
	now := k.b.o.Now().UnixMilli()
	for _, c := range contents {
		if c == nil {
			c = []byte{} // Null would be a tombstone.
		}
		if err := k.builder.Add(record.Record{Timestamp: now, Value: c}); err != nil {
			return nil, err
		}
	}
	buf, b, err := k.builder.Build(k.buf[:0])
	if k.buf = buf; cap(buf) > keptBytes {
		k.buf, k.builder = nil, record.NewBuilder(record.BuilderOptions{})
	}
	return b, err
}

// finish waits for a run to be committed, and says how far the log is.
func (k *keeper) finish(ctx context.Context, o *outcome, w commit, r *fabric.Run) {
	if o.err == nil {
		o.err = k.await(ctx, o.part, w)
	}
	if o.part != nil && o.part.replica != nil {
		o.end = uint64(o.part.replica.Log().End())
		_, o.committed = o.part.holds()
	}
	switch {
	case o.err == nil:
		k.b.records.Add(uint64(len(r.Contents)))
		for _, c := range r.Contents {
			k.b.bytes.Add(uint64(len(c)))
		}
	case ctx.Err() == nil && !errors.Is(o.err, errNoPart) && !errors.Is(o.err, partition.ErrNotLeader):
		k.refused(o, r)
	}
}

func (k *keeper) refused(o *outcome, r *fabric.Run) {
	k.b.refused.Add(uint64(len(r.Contents)))
	if now := time.Now(); now.Sub(k.told) >= toldEvery {
		k.told = now
		k.b.o.Log.Error("records of dafka producers cannot be stored, and are not acknowledged",
			"topic", r.Subject, "partition", o.part.index, "producer", r.Address, "err", o.err)
	}
}

// await waits until what was appended is committed, or never will be.
func (k *keeper) await(ctx context.Context, p *part, w commit) error {
	for {
		done, err := p.replica.Acknowledged(w.end, w.epoch)
		if done || err != nil {
			return err
		}
		if !p.replica.AwaitCommitted(w.end, w.epoch, k.bell) {
			continue // It is settled by now.
		}
		select {
		case <-k.bell:
		case <-ctx.Done():
			p.replica.ForgetCommit(k.bell)
			return context.Cause(ctx)
		}
	}
}
