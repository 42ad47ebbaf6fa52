package commitlog

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// maxRelative is the greatest distance of an offset from its segment's base.
const maxRelative = 1<<31 - 1

// segment is one segment. Fields are written with both locks held, and read with
// either, unless noted.
type segment struct {
	base model.Offset
	// size is the published length of the log file in bytes.
	size int64
	// synced is how much of size is known to be durable.
	synced int64
	// file is open or nil. used says that somebody wanted it since the last
	// Idle. Both guarded by mu.
	file *handle
	used bool
	// gone says that the segment is not part of the log any more; replaced, that
	// cleaning put another one in its place, to which its names lead. swapping
	// says that the files of this one do not have their names yet. Guarded by mu.
	gone, replaced, swapping bool
	// reserved says that the disk holds space for more than size. Guarded by
	// append.
	reserved bool
	// changed is when the file was last changed, in milliseconds since 1970, of a
	// segment that cleaning wrote: it is older than the file. Below 0 if not known.
	changed int64

	offsets, times sparse
	// sinceIndex is how many bytes were written since the last index entry.
	sinceIndex int64

	// maxTime is the greatest timestamp, -1 if there is none, and maxTimeOffset
	// the last offset of the first batch that has it, once timesKnown.
	timesKnown    bool
	maxTime       int64
	maxTimeOffset model.Offset
	// firstTime is the max timestamp of the first batch, once firstKnown.
	firstKnown bool
	firstTime  int64
	// created is the clock when this process first appended to the segment,
	// guarded by append.
	created time.Time

	// hasTxns says that there is a .txnindex; aborted is its content once
	// txnsKnown. Guarded by mu.
	hasTxns, txnsKnown bool
	aborted            []AbortedTxn
	txnsDirty          bool
}

// handle is an open file that closes when nobody refers to it any more.
type handle struct {
	vfs.File
	refs atomic.Int32
}

func newHandle(f vfs.File) *handle {
	h := &handle{File: f}
	h.refs.Store(1)
	return h
}

func (h *handle) acquire() *handle {
	h.refs.Add(1)
	return h
}

func (h *handle) release() {
	if h.refs.Add(-1) == 0 {
		h.File.Close() // Read or synced before: nothing hangs on the result.
	}
}

func (l *Log) newSegment(base model.Offset) *segment {
	return &segment{
		base:    base,
		offsets: sparse{path: l.path(base, indexSuffix), width: offsetWidth, unknown: true},
		times:   sparse{path: l.path(base, timeSuffix), width: timeWidth, unknown: true},
		maxTime: record.NoTimestamp,
		changed: -1,
	}
}

// setEmpty says that the segment has no batches: nothing needs to be loaded.
func (s *segment) setEmpty() {
	s.size, s.synced, s.sinceIndex = 0, 0, 0
	s.offsets.reset(0)
	s.times.reset(0)
	s.times.floor, s.times.floorKnown = record.NoTimestamp, true
	s.timesKnown, s.maxTime, s.maxTimeOffset = true, record.NoTimestamp, s.base
	s.firstKnown = false
}

// openLocked returns the segment's file with a reference for the caller;
// errGone if it has none any more.
func (l *Log) openLocked(s *segment) (*handle, error) {
	if s.gone {
		return nil, errGone
	}
	s.used = true
	if s.file == nil {
		f, err := l.fs.OpenWrite(l.path(s.base, logSuffix))
		if err != nil {
			return nil, err
		}
		s.file = newHandle(f)
	}
	return s.file.acquire(), nil
}

// openFile is openLocked for callers that do not hold mu.
func (l *Log) openFile(s *segment) (*handle, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.openLocked(s)
}

func (s *segment) closeLocked() {
	if s.file != nil {
		s.file.release()
		s.file = nil
	}
}

// note records a batch that was written at pos, as Kafka does: the first batch
// after each interval is indexed, by its last offset.
func (s *segment) note(b record.Batch, pos int64, interval int) {
	s.noteHeader(b, pos, int64(len(b)), interval)
}

// noteHeader is note for a batch of which only the header is at hand.
func (s *segment) noteHeader(b record.Batch, pos, size int64, interval int) {
	last := b.LastOffset()
	if pos == 0 {
		s.firstKnown, s.firstTime = true, b.MaxTimestamp()
	}
	if ts := b.MaxTimestamp(); ts > s.maxTime {
		s.maxTime, s.maxTimeOffset = ts, last
	}
	if s.sinceIndex > int64(interval) {
		s.offsets.pushOffset(uint32(last-s.base), uint32(pos))
		s.noteTime()
		s.sinceIndex = 0
	}
	s.sinceIndex += size
	s.size = pos + size
}

// noteTime adds the greatest timestamp so far to the time index, unless it is
// there already.
func (s *segment) noteTime() {
	if s.maxTime > s.lastIndexedTime() {
		s.times.pushTime(s.maxTime, uint32(s.maxTimeOffset-s.base))
	}
}

// lastIndexedTime needs the tail only: a block that went to the file leaves its
// last timestamp in timesFloor.
func (s *segment) lastIndexedTime() int64 {
	if n := len(s.times.tail); n > 0 {
		ts, _ := entryTime(s.times.tail[n-timeWidth:])
		return ts
	}
	return s.times.floor
}

// loadIndexes makes the indexes of a segment that was not written by this
// process usable. Caller holds append.
func (l *Log) loadIndexes(s *segment) error {
	if err := l.loadIndex(&s.offsets, soundOffset); err != nil {
		return err
	}
	if err := l.loadIndex(&s.times, soundTime); err != nil {
		return err
	}
	return s.times.loadFloor(l.fs)
}

// loadTimes finds the greatest timestamp of a segment. Callers need not hold a
// lock, but the segment must not grow meanwhile unless timesKnown.
func (l *Log) loadTimes(s *segment) error {
	l.mu.Lock()
	known, size, times, offsets := s.timesKnown, s.size, &s.times, &s.offsets
	l.mu.Unlock()
	if known {
		return nil
	}
	if err := l.loadIndex(offsets, soundOffset); err != nil {
		return err
	}
	if err := l.loadIndex(times, soundTime); err != nil {
		return err
	}
	l.mu.Lock()
	offs, tms := s.offsets, s.times
	l.mu.Unlock()
	ts, at, err := l.findTimes(s, offs, tms, size)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !s.timesKnown {
		s.timesKnown, s.maxTime, s.maxTimeOffset = true, ts, at
	}
	return nil
}

// findTimes takes the last entry of the time index, unless a batch after the
// last indexed one is later. Without a time index it walks all headers.
func (l *Log) findTimes(s *segment, offsets, times sparse, size int64) (maxTime int64, at model.Offset, err error) {
	maxTime, at = record.NoTimestamp, s.base
	pos := int64(0)
	var e [timeWidth]byte
	hasTime, err := times.last(l.fs, &e)
	if err != nil {
		return 0, 0, err
	}
	if hasTime {
		ts, rel := entryTime(e[:])
		maxTime, at = ts, s.base+model.Offset(rel)
	}
	if ok, err := offsets.last(l.fs, &e); err != nil {
		return 0, 0, err
	} else if ok && hasTime {
		_, p := entryOffset(e[:])
		pos = int64(p)
	}
	h, err := l.openFile(s)
	if err != nil {
		return 0, 0, err
	}
	defer h.release()
	sc := newScanner(h, pos, size)
	defer sc.close()
	for sc.next() {
		if ts := sc.header.MaxTimestamp(); ts > maxTime {
			maxTime, at = ts, sc.header.LastOffset()
		}
	}
	return maxTime, at, sc.err
}

// loadFirstTime finds the max timestamp of the first batch.
func (l *Log) loadFirstTime(s *segment) error {
	if s.firstKnown || s.size == 0 {
		return nil
	}
	h, err := l.openFile(s)
	if err != nil {
		return err
	}
	defer h.release()
	var b [record.HeaderSize]byte
	if _, err := h.ReadAt(b[:], 0); err != nil {
		return noEOF(err)
	}
	s.firstKnown, s.firstTime = true, record.Batch(b[:]).MaxTimestamp()
	return nil
}

// errShape says that a batch's header cannot be where it is.
var errShape = errors.New("commitlog: batch header does not fit its place")
