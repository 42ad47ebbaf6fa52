package commitlog

import (
	"errors"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// TimePoint is a record, and the leader epoch of its batch, found by time. If
// there is none, Offset is model.NoOffset, Timestamp record.NoTimestamp and
// Epoch model.NoEpoch.
type TimePoint struct {
	Offset    model.Offset
	Timestamp int64
	Epoch     model.Epoch
}

// noPoint is the answer when there is no such record.
var noPoint = TimePoint{model.NoOffset, record.NoTimestamp, model.NoEpoch}

// errFound ends a walk.
var errFound = errors.New("found")

// OffsetForTime finds the first record at or after the start of the log whose
// timestamp, in milliseconds since 1970, is not below ts.
func (l *Log) OffsetForTime(ts int64) (TimePoint, error) {
	p, err := again(l, func() (TimePoint, error) { return l.offsetForTime(ts) })
	return p, l.wrap("offset for time", err)
}

func (l *Log) offsetForTime(ts int64) (TimePoint, error) {
	for _, s := range l.segmentsFromStart() {
		p, err := l.searchSegment(s, ts)
		if err != nil || p.Offset >= 0 {
			return p, err
		}
	}
	return noPoint, nil
}

// MaxTimestamp finds the record with the greatest timestamp, the first of them
// if there are several.
func (l *Log) MaxTimestamp() (TimePoint, error) {
	p, err := again(l, l.maxTimestamp)
	return p, l.wrap("max timestamp", err)
}

func (l *Log) maxTimestamp() (TimePoint, error) {
	var best *segment
	var ts int64 = record.NoTimestamp
	for _, s := range l.segmentsFromStart() {
		if err := l.loadTimes(s); err != nil {
			return noPoint, err
		}
		l.mu.Lock()
		t := s.maxTime
		l.mu.Unlock()
		if t > ts {
			best, ts = s, t
		}
	}
	if best == nil {
		return noPoint, nil
	}
	return l.searchSegment(best, ts)
}

func (l *Log) segmentsFromStart() []*segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.segments[l.segmentIndexLocked(l.mu.start):]
}

// searchSegment finds the first record of a segment that is late enough.
func (l *Log) searchSegment(s *segment, ts int64) (TimePoint, error) {
	if err := l.loadTimes(s); err != nil {
		return noPoint, err
	}
	l.mu.Lock()
	late, times, start := s.maxTime >= ts && s.size > 0, s.times, max(l.mu.start, s.base)
	l.mu.Unlock()
	if !late {
		return noPoint, nil
	}
	// All records up to the last entry below ts are too early.
	var e [timeWidth]byte
	n, err := times.search(l.fs, &e, func(e []byte) bool {
		t, _ := entryTime(e)
		return t >= ts
	})
	if err == nil && n > 0 {
		_, rel := entryTime(e[:])
		start = max(start, s.base+model.Offset(rel))
	}
	point := noPoint
	err = l.walkSegment(s, start, func(sc *scanner) error {
		if sc.header.MaxTimestamp() < ts {
			return nil
		}
		b := make([]byte, sc.size)
		if _, err := sc.r.ReadAt(b, sc.pos); err != nil {
			return noEOF(err)
		}
		p, ok, err := firstSince(b, ts, l.Start())
		if ok {
			point = p
			return errFound
		}
		return err
	})
	if err == errFound {
		err = nil
	}
	return point, err
}

// walkSegment calls each with the headers from the batch that holds an offset
// on.
func (l *Log) walkSegment(s *segment, from model.Offset, each func(*scanner) error) error {
	l.mu.Lock()
	r := reading{segment: s, base: s.base, size: s.size, offsets: s.offsets}
	h, err := l.openLocked(s)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	defer h.release()
	pos := l.floor(&r, from)
	if l.isReplaced(s) {
		return errGone
	}
	sc := newScanner(h, pos, r.size)
	defer sc.close()
	for sc.next() {
		if sc.header.LastOffset() < from {
			continue
		}
		if err := each(&sc); err != nil {
			return err
		}
	}
	return sc.err
}

// firstSince finds the first record of a batch at or after start that is late
// enough.
func firstSince(b record.Batch, ts int64, start model.Offset) (TimePoint, bool, error) {
	at, stamp, ok, err := b.FirstSince(ts, start)
	if err != nil || !ok {
		return noPoint, false, err
	}
	return TimePoint{at, stamp, b.LeaderEpoch()}, true, nil
}
