package storelog

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

const (
	// batchBytes and batchRecords are how much a batch has, unless one record
	// has more. Who asks for one record reads that much.
	batchBytes   = 128 << 10
	batchRecords = 1 << 14
	// writeBytes is how much is written at once.
	writeBytes = 2 << 20
	// keptBytes is how much memory is kept for the next write.
	keptBytes = 2*writeBytes + batchBytes
)

// appender is what Append needs from one call to the next.
type appender struct {
	builder *record.Builder
	buf     []byte
	out     []Outcome
	touched []*Partition
	bad     map[fabric.Partition]bool // Refused in this call.
	madeDir bool
	choice  datadir.SyncChoice
	refusal refusal
}

func (a *appender) init() {
	a.builder = record.NewBuilder(record.BuilderOptions{})
	a.bad = map[fabric.Partition]bool{}
}

// Outcome is what became of a run.
type Outcome struct {
	Number int // That of the run, which the caller gave it.
	// Partition is where it is, and nil if it never got a number.
	Partition *Partition
	// Stored is one past the last record that is stored, End one past the last that
	// the log has: what comes next. If Err is not nil they may lie before, in or
	// behind the run.
	Stored, End uint64
	// Err says why the run, or its end, was refused.
	Err error
}

var errFull = fmt.Errorf("storelog: no space is left but the reserve: %w", syscall.ENOSPC)

// Append appends runs to their partitions, and makes them durable if that is
// what stored means. Runs of one partition are in order; when one is refused,
// so are those behind it. Numbers of runs are the caller's own. The outcomes, one
// for each run, are valid until the next call.
func (l *Logs) Append(runs []fabric.Run) []Outcome {
	a := &l.a
	a.out, a.touched, a.madeDir = a.out[:0], a.touched[:0], false
	clear(a.bad)
	err := l.numberAll(runs)
	for i := range runs {
		a.out = append(a.out, l.appendRun(&runs[i], err))
	}
	if cap(a.buf) > keptBytes {
		a.buf = nil
	}
	l.finish(runs)
	l.judge()
	return a.out
}

// numberAll sees to it that each run's partition has a number.
func (l *Logs) numberAll(runs []fabric.Run) error {
	var fresh []fabric.Partition
	l.mu.RLock()
	for i := range runs {
		p := runs[i].Partition
		if l.mu.known[p] == nil && !l.a.bad[p] {
			l.a.bad[p] = true
			fresh = append(fresh, p)
		}
	}
	l.mu.RUnlock()
	clear(l.a.bad)
	if len(fresh) > 0 && l.dir.Full() {
		return errFull
	}
	return l.number(fresh)
}

func (l *Logs) appendRun(r *fabric.Run, unnumbered error) Outcome {
	a := &l.a
	l.mu.RLock()
	p := l.mu.known[r.Partition]
	l.mu.RUnlock()
	out := Outcome{Number: r.Number, Partition: p}
	switch {
	case p == nil:
		out.Err = unnumbered
	case a.bad[r.Partition]:
		out.Err = commitlog.ErrNotNext
	case l.dir.Full():
		out.Err = errFull
	default:
		out.Err = l.write(p, r)
	}
	if out.Err != nil {
		a.bad[r.Partition] = true
	}
	return out
}

// write puts a run into the log, in batches.
func (l *Logs) write(p *Partition, r *fabric.Run) error {
	l.closeMany()
	log, err := l.ready(p, model.Offset(r.First))
	if err != nil {
		return err
	}
	l.touch(p)
	if n := len(l.a.touched); n == 0 || l.a.touched[n-1] != p {
		l.a.touched = append(l.a.touched, p)
	}
	now := l.o.Now().UnixMilli()
	buf, next := l.a.buf[:0], model.Offset(r.First)
	for rest := r.Contents; len(rest) > 0; {
		n := cut(rest)
		if buf, err = l.encode(buf, next, now, rest[:n]); err != nil {
			return err
		}
		next, rest = next+model.Offset(n), rest[n:]
		if len(buf) < writeBytes && len(rest) > 0 && len(buf)+len(rest[0]) < writeBytes {
			continue
		}
		if err := l.put(log, buf); err != nil {
			return err
		}
		buf = buf[:0]
	}
	l.a.buf = buf
	return nil
}

// ready is the log of a partition, to which a record of this sequence can be
// appended.
func (l *Logs) ready(p *Partition, first model.Offset) (log *commitlog.Log, err error) {
	if log = p.log.Load(); log == nil {
		if log, err = l.make(p); err != nil {
			return nil, err
		}
		l.a.madeDir = true
	}
	if err := log.Err(); err != nil {
		return nil, err
	}
	if first < log.End() {
		return nil, fmt.Errorf("%w: %d, end %d", commitlog.ErrNotNext, first, log.End())
	}
	if log.Size() == 0 && first > log.End() {
		return log, log.TruncateFullyAndStartAt(first) // It begins there.
	}
	return log, nil
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

func (l *Logs) encode(buf []byte, base model.Offset, now int64, contents [][]byte) ([]byte, error) {
	b := l.a.builder
	b.Reset(record.BuilderOptions{BaseOffset: base, LeaderEpoch: model.NoEpoch})
	for _, c := range contents {
		if c == nil {
			c = []byte{} // Null would be a tombstone.
		}
		if err := b.Add(record.Record{Timestamp: now, Value: c}); err != nil {
			return buf, err
		}
	}
	out, _, err := b.Build(buf)
	if b.Size() > keptBytes {
		l.a.builder = record.NewBuilder(record.BuilderOptions{})
	}
	if err != nil {
		return buf, err
	}
	return out, nil
}

// put appends batches. A record that is larger than a segment gets one for
// itself.
func (l *Logs) put(log *commitlog.Log, batches []byte) error {
	l.makeRoom(int64(len(batches)))
	_, err := log.AppendAt(batches)
	if !errors.Is(err, commitlog.ErrTooLarge) {
		return err
	}
	o := l.options()
	o.SegmentBytes = int64(len(batches))
	log.Tune(o)
	defer log.Tune(l.options())
	_, err = log.AppendAt(batches)
	return err
}

// finish makes what was written durable, and tells how far each is stored.
func (l *Logs) finish(runs []fabric.Run) {
	a := &l.a
	var lost error
	if l.o.Sync && a.madeDir {
		lost = l.dir.SyncNames()
	}
	if l.o.Sync && lost == nil {
		l.sync(a.touched) // An error takes the log offline, and it keeps its stored end.
	}
	for _, p := range a.touched {
		l.publish(p, lost)
	}
	for i := range a.out {
		o, r := &a.out[i], &runs[i]
		if o.Partition != nil {
			o.Stored, o.End = o.Partition.End(), o.Partition.next()
		}
		if o.Err == nil && o.Stored < r.End() {
			o.Err = l.why(o.Partition, lost)
		}
		if o.Err != nil {
			l.stat.refused.Add(uint64(len(r.Contents)))
			a.refusal.err = o.Err
			continue
		}
		l.stat.records.Add(uint64(len(r.Contents)))
		for _, c := range r.Contents {
			l.stat.bytes.Add(uint64(len(c)))
		}
	}
}

// next is where the log of a partition ends, stored or not.
func (p *Partition) next() uint64 {
	if log := p.log.Load(); log != nil {
		return uint64(log.End())
	}
	return 0
}

func (l *Logs) why(p *Partition, lost error) error {
	if lost != nil {
		return lost
	}
	if err := p.log.Load().Err(); err != nil {
		return err
	}
	return commitlog.ErrOffline
}

// publish raises the stored end of a partition.
func (l *Logs) publish(p *Partition, lost error) {
	log := p.log.Load()
	end := log.End()
	if l.o.Sync {
		end = log.SyncedEnd()
	}
	if lost != nil || log.Err() != nil || int64(end) <= p.stored.Load() {
		return
	}
	p.stored.Store(int64(end))
	l.changed(p)
}

// sync makes partitions durable, together if they are many. Each that fails is
// offline from then on.
func (l *Logs) sync(parts []*Partition) (failed []error) {
	type syncing struct {
		log *commitlog.Log
		s   commitlog.Syncing
	}
	var syncs []syncing
	for _, p := range parts {
		log := p.log.Load()
		s, err := log.BeginSync()
		if err != nil {
			failed = append(failed, err)
			continue
		}
		syncs = append(syncs, syncing{log, s})
	}
	if len(syncs) == 0 {
		return failed
	}
	l.stat.syncs.Add(1)
	began := l.o.Now()
	together := l.a.choice.Together(len(syncs))
	var all error
	if together {
		all = l.dir.SyncAll()
	}
	for _, x := range syncs {
		err := all
		if !together {
			err = x.s.Flush()
		}
		if err := x.log.FinishSync(x.s, err); err != nil {
			failed = append(failed, err)
		}
	}
	l.a.choice.Took(together, len(syncs), l.o.Now().Sub(began))
	return failed
}

// refusal is when something was refused, for the log.
type refusal struct {
	err   error
	since time.Time
	told  bool
}

// judge says once that records are refused, and once that it is over.
func (l *Logs) judge() {
	r := &l.a.refusal
	switch now := l.o.Now(); {
	case r.err != nil && !r.told:
		r.told = true
		l.o.Log.Error("records refused: they cannot be stored, and are not acknowledged", "dir", l.dir.Path(), "err", r.err)
		fallthrough
	case r.err != nil:
		r.since = now
	case r.told && now.Sub(r.since) > quietAfter:
		r.told = false
		l.o.Log.Info("records are stored again", "dir", l.dir.Path())
	}
	r.err = nil
}

// quietAfter is for how long nothing must have been refused until that is said.
const quietAfter = 10 * time.Second
