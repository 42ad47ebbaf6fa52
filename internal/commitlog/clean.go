package commitlog

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// CleanScope says how much of a log may be cleaned.
type CleanScope struct {
	// From is where the dirty part begins: the End of the last pass, or
	// model.NoOffset if that is not known. What lies below the log start counts as
	// long as it is there: a crash may lower the start, and a value must not
	// come back whose tombstone is gone.
	From model.Offset
	// Limit is the last stable offset: the segment that holds it and all behind it
	// stay as they are, and so does the active one.
	Limit model.Offset
	// Mark is the last mark that the caller kept. Its segment, and all behind it,
	// stay as they are: what it vouches for must not move. One that a
	// truncation has outdated allows nothing.
	Mark Mark
}

// CleanOptions say how one pass of compaction goes.
type CleanOptions struct {
	CleanScope
	// Committed is the commit point: a batch that ends there is kept, if empty.
	Committed model.Offset
	// Now is the clock, DeleteRetention how long tombstones and markers stay
	// once they were found to be of no more use (delete.retention.ms).
	Now             time.Time
	DeleteRetention time.Duration
	// Producers are those that are remembered, with their last batches, which
	// are kept for their sequences, if empty. Asked once for each new segment.
	Producers func() map[model.ProducerID]LastBatch
	// Map is emptied and filled. What does not fit is left for another pass.
	Map *OffsetMap
	// BufferBytes is how much is read at once, and how much written; 0 means 256
	// KiB. A batch that is larger gets memory for itself.
	BufferBytes int
	// Pace, if not nil, is told of bytes that were read or written, and waits.
	Pace func(ctx context.Context, bytes int) error
	// Room, if not nil, says whether the disk has room for so many bytes more, and
	// may wait for it.
	Room func(bytes int64) bool
	// KeysRequired refuses, with ErrNoKey, a log with records that have none;
	// else they are removed, as Kafka does.
	KeysRequired bool
}

// LastBatch is the last batch of a producer: the offset of its last record, or
// model.NoOffset if only a marker with its epoch is known.
type LastBatch struct {
	Offset model.Offset
	Epoch  int16
}

// Cleaned is what a pass did.
type Cleaned struct {
	// End is where the dirty part begins now: From, if the pass was cut short.
	End model.Offset
	// BytesIndexed were read to fill the map, BytesRead and BytesWritten to
	// clean; of what did not change nothing was written.
	BytesIndexed, BytesRead, BytesWritten int64
	// RecordsRead and RecordsKept do not count what was aborted. Keyless ones
	// were removed because they had no key.
	RecordsRead, RecordsKept, Keyless int64
	// Segments were looked at, Replaced of them replaced by others.
	Segments, Replaced int
	// Freed is how many bytes the log is smaller.
	Freed int64
	// MapUse is how full the map was: 0 to 1.
	MapUse float64
}

// Errors of a pass that callers tell apart, beside ErrChanged, ErrOffline and
// *Damage.
var (
	// ErrNoRoom says that the disk has no room for a cleaned segment.
	ErrNoRoom = errors.New("commitlog: no room to clean")
	// ErrNoKey says that a record without a key was found, and CleanOptions said to
	// refuse.
	ErrNoKey = errors.New("commitlog: record without a key")
)

// defaultCleanBuffer is half of Kafka's log.cleaner.io.buffer.size.
const defaultCleanBuffer = 256 << 10

// cleaning guards that there is one pass at a time, and none after Close.
type cleaning struct {
	mu struct {
		sync.Mutex
		closed bool
		cancel context.CancelFunc // Of the pass under way.
		done   chan struct{}
	}
}

func (c *cleaning) begin(ctx context.Context) (context.Context, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.mu.closed:
		return nil, nil, ErrClosed
	case c.mu.cancel != nil:
		return nil, nil, errors.New("commitlog: a cleaning is under way")
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	c.mu.cancel, c.mu.done = cancel, done
	return ctx, func() {
		cancel()
		c.mu.Lock()
		c.mu.cancel, c.mu.done = nil, nil
		c.mu.Unlock()
		close(done)
	}, nil
}

// close ends the pass under way, waits for it, and lets none begin.
func (c *cleaning) close() {
	c.mu.Lock()
	c.mu.closed = true
	cancel, done := c.mu.cancel, c.mu.done
	c.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
}

// Clean removes the records that compaction gives up: those with a later
// record of their key, tombstones and markers whose time has come, and what was
// aborted. Offsets never change. It does so for as much of the log as the
// map holds the keys of, and says how far that is.
//
// Appends, reads and retention go on meanwhile, and what retention deletes is
// left out; Truncate makes it end with ErrChanged, Close with ErrClosed. Whatever
// ends it, the segments that were replaced stay so, and another pass does the
// rest.
func (l *Log) Clean(ctx context.Context, o CleanOptions) (Cleaned, error) {
	ctx, end, err := l.cleaning.begin(ctx)
	if err != nil {
		return Cleaned{End: o.From}, l.wrap("clean", err)
	}
	defer end()
	p, err := l.newPass(o)
	if err != nil {
		return Cleaned{End: o.From}, l.wrap("clean", err)
	}
	if err = p.run(ctx); err != nil {
		err = p.why(err)
	}
	return p.done, l.wrap("clean", err)
}

// why finds out whether an error is only what a change of the log, or its end,
// did to the reading of it.
func (p *pass) why(err error) error {
	l := p.l
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.mu.err != nil:
		return l.mu.err
	case l.mu.generation != p.generation, errors.Is(err, errGone):
		return ErrChanged
	case errors.Is(err, context.Canceled) && l.cleaning.isClosed():
		return ErrClosed
	}
	return err
}

func (c *cleaning) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.closed
}

// pass is one pass over a log.
type pass struct {
	l    *Log
	o    CleanOptions
	done Cleaned

	generation int64
	// segments are those of the log when the pass began.
	segments []*segment
	// latest is the last offset that the map knows about.
	latest model.Offset

	segmentBytes            int64
	maxIndex, indexInterval int
	// most is how many bytes a segment may have, for the positions of its index.
	most int64

	reader cleanReader
	sieve  record.Sieve
	// out is the memory of what is written, sifted that of one batch.
	out, sifted []byte
	txns        *cleanTxns
	producers   map[model.ProducerID]LastBatch
	// sourceAborted are the aborted transactions of the segments being cleaned.
	sourceAborted []AbortedTxn
}

func (l *Log) newPass(o CleanOptions) (*pass, error) {
	if o.BufferBytes <= 0 {
		o.BufferBytes = defaultCleanBuffer
	}
	o.BufferBytes = max(o.BufferBytes, record.HeaderSize)
	l.append.Lock()
	defer l.append.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err != nil {
		return nil, l.mu.err
	}
	p := &pass{
		l: l, o: o, generation: l.mu.generation, segments: l.mu.segments,
		segmentBytes: l.opts.SegmentBytes, maxIndex: l.opts.MaxIndexBytes, indexInterval: l.opts.IndexInterval, most: maxRelative,
		reader: cleanReader{buf: make([]byte, o.BufferBytes)}, out: make([]byte, 0, o.BufferBytes),
	}
	p.o.From = max(o.From, l.mu.segments[0].base)
	p.o.Limit = l.mu.segments[l.cleanableLocked(o.CleanScope)].base
	p.done.End = p.o.From
	return p, nil
}

// cleanableLocked is the index of the first segment that may not be cleaned.
func (l *Log) cleanableLocked(s CleanScope) int {
	if s.Mark.Generation != l.mu.generation {
		return 0
	}
	return l.segmentIndexLocked(min(s.Limit, s.Mark.Segment))
}

func (p *pass) run(ctx context.Context) error {
	if p.o.From >= p.o.Limit {
		return nil
	}
	if err := p.fillMap(ctx); err != nil {
		return err
	}
	p.done.MapUse = p.o.Map.Use()
	p.txns = newCleanTxns()
	for _, group := range p.groups() {
		if err := p.clean(ctx, group); err != nil {
			return err
		}
	}
	p.done.End = p.latest + 1
	return nil
}

// pause waits as Pace says, and ends when the pass is to end.
func (p *pass) pause(ctx context.Context, bytes int) error {
	if p.o.Pace != nil && bytes > 0 {
		if err := p.o.Pace(ctx, bytes); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// between are the segments that hold offsets of a range.
func (p *pass) between(from, to model.Offset) []*segment {
	var list []*segment
	for i, s := range p.segments {
		if s.base < to && (i+1 == len(p.segments) || p.segments[i+1].base > from) {
			list = append(list, s)
		}
	}
	return list
}

// endOf is where the segment ends, which is not the last one.
func (p *pass) endOf(s *segment) model.Offset {
	i, found := slices.BinarySearchFunc(p.segments, s.base, func(s *segment, o model.Offset) int { return cmp.Compare(s.base, o) })
	if !found {
		return s.base
	}
	return p.segments[i+1].base
}

// fillMap notes the last record of every key in the dirty part, up to where the
// map is full.
func (p *pass) fillMap(ctx context.Context) error {
	// No log has more keys than offsets.
	p.o.Map.Reset(int64(p.o.Limit - p.o.From))
	p.latest = p.o.From - 1
	aborted, err := p.l.Aborted(p.o.From, p.o.Limit)
	if err != nil {
		return err
	}
	txns := newCleanTxns()
	txns.add(aborted)
	for _, s := range p.between(p.o.From, p.o.Limit) {
		full, err := p.fillFrom(ctx, s, txns)
		if errors.Is(err, errGone) && len(p.kept([]*segment{s})) == 0 {
			err = nil // With what lies before it: it gives no value up.
		}
		if full || err != nil {
			return err
		}
		p.latest = p.endOf(s) - 1
	}
	return nil
}

// kept are those of the segments that retention has not deleted meanwhile. It
// deletes the oldest first.
func (p *pass) kept(segments []*segment) []*segment {
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(segments), func(s *segment) bool { return s.gone && !s.replaced })
}

// each reads the batches of a segment from a position on, until do says stop.
func (p *pass) each(ctx context.Context, s *segment, from model.Offset, do func(b record.Batch, pos int64) (stop bool, err error)) error {
	h, err := p.l.openFile(s)
	if err != nil {
		return err
	}
	defer h.release()
	p.l.mu.Lock()
	r := reading{segment: s, base: s.base, size: s.size, offsets: s.offsets, generation: p.generation}
	p.l.mu.Unlock()
	pos := int64(0)
	if from > s.base {
		pos = p.l.floor(&r, from)
		if p.l.isReplaced(s) {
			return errGone
		}
	}
	p.reader.open(h, s.base, pos, r.size)
	for p.reader.more() {
		pos := p.reader.pos
		b, err := p.reader.read()
		if err != nil {
			return err
		}
		stop, err := do(b, pos)
		if err != nil || stop {
			return err
		}
		if took := p.reader.took; took > 0 {
			p.reader.took = 0
			if err := p.pause(ctx, took); err != nil {
				return err
			}
		}
	}
	return nil
}

// fillFrom notes the keys of one segment; full says that not all of them fit.
func (p *pass) fillFrom(ctx context.Context, s *segment, txns *cleanTxns) (full bool, err error) {
	err = p.each(ctx, s, p.o.From, func(b record.Batch, pos int64) (bool, error) {
		p.done.BytesIndexed += int64(len(b))
		if full, err = p.fillBatch(b, txns); err != nil {
			return true, &Damage{FileName(s.base, logSuffix), pos, err}
		}
		return full, nil
	})
	return full, err
}

func (p *pass) fillBatch(b record.Batch, txns *cleanTxns) (full bool, err error) {
	if b.IsControl() {
		if _, err := txns.control(b); err != nil {
			return false, err
		}
	} else if !txns.data(b) {
		keyless := false
		err := p.sieve.Each(b, func(i record.Item) bool {
			switch {
			case i.Offset < p.o.From:
			case i.Key == nil:
				keyless = true
			case p.o.Map.Put(i.Key, i.Offset):
				p.latest = max(p.latest, i.Offset)
			default:
				full = true
			}
			return !full && !(keyless && p.o.KeysRequired)
		})
		if err != nil || full {
			return full, err
		}
		if keyless && p.o.KeysRequired {
			return false, ErrNoKey
		}
	}
	p.latest = max(p.latest, b.LastOffset())
	return false, nil
}

// groups are the segments to be cleaned, in runs that one segment can hold, so
// that segments do not become ever smaller.
func (p *pass) groups() [][]*segment {
	var groups [][]*segment
	var size int64
	var index, times int
	for _, s := range p.between(0, p.latest+1) {
		offsetsBytes, timesBytes := p.indexSizes(s)
		last := len(groups) - 1
		if last >= 0 && size+s.size <= p.segmentBytes && index+offsetsBytes <= p.maxIndex && times+timesBytes <= p.maxIndex &&
			(s.size == 0 || p.endOf(s)-1-groups[last][0].base <= maxRelative) {
			groups[last] = append(groups[last], s)
		} else {
			groups = append(groups, []*segment{s})
			size, index, times = 0, 0, 0
		}
		size, index, times = size+s.size, index+offsetsBytes, times+timesBytes
	}
	return groups
}

// indexSizes are those of the two indexes, as far as they are known: the
// limit is of use to Kafka only.
func (p *pass) indexSizes(s *segment) (offsets, times int) {
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	return s.offsets.bytes(), s.times.bytes()
}

// clean puts one segment in the place of a group. When retention deletes a part
// of the group, and so all that lies before it, it begins again with the rest:
// a log from which something is deleted more often than a pass takes would
// never be compacted.
func (p *pass) clean(ctx context.Context, group []*segment) error {
	for {
		left := p.kept(group)
		if len(left) < len(group) {
			p.txns = newCleanTxns() // Nothing is left of what it has followed.
		}
		if group = left; len(group) == 0 {
			return nil
		}
		err := p.cleanGroup(ctx, group)
		if !isAbsence(err) || len(p.kept(group)) == len(group) {
			return err
		}
	}
}

// isAbsence reports what a pass meets when a segment is deleted under its hands.
func isAbsence(err error) bool {
	return errors.Is(err, errGone) || errors.Is(err, ErrChanged) || errors.Is(err, fs.ErrNotExist)
}

func (p *pass) cleanGroup(ctx context.Context, group []*segment) error {
	if p.o.Room != nil && !p.o.Room(sizeOf(group)) {
		return cmp.Or(ctx.Err(), ErrNoRoom)
	}
	w := p.newWriter(group[0].base)
	w.left = sizeOf(group)
	changed, err := p.cleanInto(ctx, w, group)
	if err == nil && changed {
		err = p.l.swap(group, w, p.generation, p.o.Now)
	}
	p.done.Segments += len(group)
	if err != nil || !changed {
		return errors.Join(err, w.discard())
	}
	p.done.Replaced += len(group)
	p.done.Freed += sizeOf(group) - w.s.size
	return nil
}

// cleanInto writes what is left of a group.
func (p *pass) cleanInto(ctx context.Context, w *cleanWriter, group []*segment) (changed bool, err error) {
	p.producers = nil
	if p.o.Producers != nil {
		p.producers = p.o.Producers()
	}
	if len(group) == 1 {
		if w.source, err = p.l.openFile(group[0]); err != nil {
			return false, err
		}
		defer w.source.release()
	}
	p.sourceAborted = p.sourceAborted[:0]
	for _, s := range group {
		if err := p.cleanSegment(ctx, w, s); err != nil {
			return false, err
		}
	}
	w.aborted = p.txns.takeRetained()
	return w.finish(ctx, group)
}

func (p *pass) cleanSegment(ctx context.Context, w *cleanWriter, s *segment) error {
	aborted, err := p.l.Aborted(s.base, p.endOf(s))
	if err != nil {
		return err
	}
	p.txns.add(aborted)
	for _, t := range aborted {
		if t.Last >= s.base && t.Last < p.endOf(s) {
			p.sourceAborted = append(p.sourceAborted, t)
		}
	}
	return p.each(ctx, s, s.base, func(b record.Batch, pos int64) (bool, error) {
		p.done.BytesRead += int64(len(b))
		w.left -= int64(len(b))
		out, same, err := p.batch(b, p.most-w.s.size-w.left)
		if err != nil {
			return true, &Damage{FileName(s.base, logSuffix), pos, err}
		}
		return false, w.take(ctx, out, pos, same)
	})
}
