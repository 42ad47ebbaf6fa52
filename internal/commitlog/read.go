package commitlog

import (
	"errors"
	"slices"

	"github.com/barnabas-log/barnabas/model"
)

// reading is what a reader noted of one segment under mu.
type reading struct {
	file       *handle
	segment    *segment
	base       model.Offset
	size       int64
	end        model.Offset // Of the records in the segment, at most.
	offsets    sparse
	start      int64 // Position of the first batch to read, -1 if not known.
	stop       int64 // Position of the limit, -1 if not known.
	generation int64
	last       bool // The segment is the active one.
}

// Read returns whole batches of one segment: from the one that holds offset
// `from`, or the next one if compaction took it, on; all of them below limit;
// no more than maxBytes, except that with minOneBatch the first one is returned
// whatever its size. The view is empty if there is nothing to read.
//
// ErrOutOfRange if from lies before the start or behind the end. The caller
// closes the view.
func (l *Log) Read(from, limit model.Offset, maxBytes int, minOneBatch bool) (View, error) {
	for at := from; ; {
		r, ok, err := l.noteReading(at, from, limit)
		if err != nil {
			return View{}, l.wrap("read", err)
		}
		if !ok {
			return View{from: from, end: from}, nil
		}
		v, err := l.readSegment(r, from, limit, maxBytes, minOneBatch)
		if err == nil && v.size > 0 {
			return v, nil
		}
		r.file.release()
		if errors.Is(err, errGone) || l.isReplaced(r.segment) {
			continue
		}
		if err != nil {
			return View{}, l.wrap("read", err)
		}
		if r.last || !v.past {
			return View{from: from, end: from}, nil
		}
		at = r.end // The rest of the segment holds nothing at or after from.
	}
}

// noteReading finds the segment of an offset. ok is false if there is nothing
// to read below the limit.
func (l *Log) noteReading(at, from, limit model.Offset) (r reading, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err != nil {
		return r, false, l.mu.err
	}
	if from < l.mu.start || from > l.mu.end {
		return r, false, ErrOutOfRange
	}
	if at >= limit || at >= l.mu.end {
		return r, false, nil
	}
	i := l.segmentIndexLocked(at)
	s := l.mu.segments[i]
	r = reading{
		segment: s, base: s.base, size: s.size, end: l.mu.end, offsets: s.offsets, start: -1, stop: -1,
		generation: l.mu.generation, last: i == len(l.mu.segments)-1,
	}
	if !r.last {
		r.end = l.mu.segments[i+1].base
	}
	if at == s.base {
		r.start = 0
	} else if p, found := l.mu.places.find(at); found && p.segment == s.base {
		r.start = p.pos
	}
	if p, found := l.mu.places.find(limit); found && p.segment == s.base {
		r.stop = p.pos
	}
	r.file, err = l.openLocked(s)
	return r, err == nil, err
}

// segmentIndexLocked returns the segment in whose range an offset lies.
func (l *Log) segmentIndexLocked(o model.Offset) int {
	i, found := slices.BinarySearchFunc(l.mu.segments, o, func(s *segment, o model.Offset) int {
		return int(max(-1, min(1, int64(s.base-o))))
	})
	if !found {
		i--
	}
	return max(i, 0)
}

// readSegment cuts the view out of one segment. It takes over the reference on
// the file if the view is not empty.
func (l *Log) readSegment(r reading, from, limit model.Offset, maxBytes int, minOneBatch bool) (View, error) {
	v := View{file: r.file, from: from, end: from}
	start := r.start
	if start < 0 {
		sc := newScanner(r.file, l.floor(&r, from), r.size)
		for sc.next() && sc.header.LastOffset() < from {
		}
		start = sc.pos
		sc.close()
		if sc.err != nil {
			return v, sc.err
		}
	}
	if start >= r.size {
		v.past = true
		return v, nil
	}
	stop, end, err := l.findStop(r, start, limit, maxBytes, minOneBatch)
	if err != nil || stop == start {
		return v, err
	}
	v.pos, v.size, v.end = start, int(stop-start), end
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.segment.replaced {
		return View{}, errGone // The index may have been that of another.
	}
	if l.mu.generation == r.generation && stop < r.size {
		l.mu.places.add(place{end, r.base, stop})
	}
	return v, nil
}

// findStop returns where a view that begins at start ends.
func (l *Log) findStop(r reading, start int64, limit model.Offset, maxBytes int, minOneBatch bool) (int64, model.Offset, error) {
	room := start + int64(max(maxBytes, 0))
	if r.size <= room && limit >= r.end {
		return r.size, r.end, nil
	}
	if r.stop >= start && r.stop <= room {
		return r.stop, limit, nil
	}
	sc := newScanner(r.file, max(start, l.lastBefore(&r, limit, room)), r.size)
	defer sc.close()
	stop, end := start, model.NoOffset
	for sc.next() {
		first := sc.pos == start
		if sc.header.LastOffset() >= limit || sc.pos+sc.size > room && !(first && minOneBatch) {
			break
		}
		stop, end = sc.pos+sc.size, sc.header.End()
	}
	if stop == start && sc.err == nil && sc.pos > start {
		// The indexed batch itself does not fit any more: what comes before it
		// does, and ends where it begins.
		return sc.pos, sc.header.BaseOffset(), nil
	}
	if stop == r.size {
		end = r.end
	}
	return stop, end, sc.err
}

// floor is a position at or before the batch that holds an offset.
func (l *Log) floor(r *reading, o model.Offset) int64 {
	rel := relative(r.base, o)
	return l.lookup(r, func(e []byte) bool {
		last, _ := entryOffset(e)
		return last > rel
	})
}

// lastBefore is the position of the last indexed batch that ends below limit
// and begins before room.
func (l *Log) lastBefore(r *reading, limit model.Offset, room int64) int64 {
	rel := relative(r.base, limit)
	return l.lookup(r, func(e []byte) bool {
		last, pos := entryOffset(e)
		return last >= rel || int64(pos) >= room
	})
}

// relative is an offset as an index has it; what does not fit lies before or
// behind all entries.
func relative(base, o model.Offset) uint32 {
	return uint32(max(0, min(o-base, maxRelative+1)))
}

// lookup finds the position of the last entry that is not after. An index that
// cannot be read, or is wrong, costs time, not correctness: the search begins
// at the start of the segment.
func (l *Log) lookup(r *reading, after func(e []byte) bool) int64 {
	if r.offsets.unknown {
		if err := l.loadIndex(&r.segment.offsets, soundOffset); err != nil {
			return 0
		}
		l.mu.Lock()
		r.offsets = r.segment.offsets
		l.mu.Unlock()
	}
	var e [timeWidth]byte
	hot := r.offsets.hotFrom
	had := r.offsets.hot != nil
	n, err := r.offsets.search(l.fs, &e, after)
	if err != nil || n == 0 {
		return 0
	}
	if r.offsets.hot != nil && (!had || r.offsets.hotFrom != hot) {
		l.keepHot(r)
	}
	if _, pos := entryOffset(e[:]); int64(pos) < r.size {
		return int64(pos)
	}
	return 0
}

// keepHot remembers a block of an index for the next reader, unless a
// truncation came between.
func (l *Log) keepHot(r *reading) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.generation == r.generation {
		r.segment.offsets.hot, r.segment.offsets.hotFrom = r.offsets.hot, r.offsets.hotFrom
	}
}

// loadIndex asks the file of an index, once, how much it holds. Callers need
// not hold a lock.
func (l *Log) loadIndex(x *sparse, ok func(entry, first []byte) bool) error {
	l.mu.Lock()
	c := *x
	l.mu.Unlock()
	if !c.unknown {
		return nil
	}
	if err := c.load(l.fs, ok); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if x.unknown {
		x.inFile, x.unknown, x.untrimmed = c.inFile, false, c.untrimmed
	}
	return nil
}
