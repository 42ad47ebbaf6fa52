package commitlog

import (
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// Dirt is how much of a log waits to be cleaned.
type Dirt struct {
	// From is where the dirty part begins, Limit where what may be cleaned of
	// it ends, which is the base of a segment.
	From, Limit model.Offset
	// Clean is the bytes of the segments that begin before From, Dirty of those
	// that hold offsets from From to Limit. A segment may count for both.
	Clean, Dirty int64
	// Oldest is the least timestamp with which a segment of the dirty part
	// begins, whether it may be cleaned or not; record.NoTimestamp if it was not
	// asked for or there is none.
	Oldest int64
}

// Ratio is the share of dirty bytes: 0 to 1, 0 for an empty log.
func (d Dirt) Ratio() float64 {
	if d.Clean+d.Dirty == 0 {
		return 0
	}
	return float64(d.Dirty) / float64(d.Clean+d.Dirty)
}

// ActiveBase is the base of the active segment: what lies below is sealed.
func (l *Log) ActiveBase() model.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.active().base
}

// Dirt looks how much of the log may be cleaned. Segments with a record younger
// than minLag (min.compaction.lag.ms) and all behind them may not. oldest says
// whether Oldest is wanted, which may take a read of each segment.
func (l *Log) Dirt(scope CleanScope, now time.Time, minLag time.Duration, oldest bool) (Dirt, error) {
	d, err := again(l, func() (Dirt, error) { return l.dirt(scope, now, minLag, oldest) })
	return d, l.wrap("dirt", err)
}

func (l *Log) dirt(scope CleanScope, now time.Time, minLag time.Duration, oldest bool) (Dirt, error) {
	l.mu.Lock()
	segments, err := l.mu.segments, l.mu.err
	from := max(scope.From, segments[0].base)
	first, uncleanable := l.segmentIndexLocked(from), l.cleanableLocked(scope)
	l.mu.Unlock()
	d := Dirt{From: from, Oldest: record.NoTimestamp}
	if err != nil {
		return d, err
	}
	sealed := segments[:len(segments)-1]
	for i := first; i < min(uncleanable, len(sealed)) && minLag > 0; i++ {
		ts, err := l.timeOf(sealed[i])
		if err != nil {
			return d, err
		}
		if ts > now.Add(-minLag).UnixMilli() {
			uncleanable = i
		}
	}
	uncleanable = max(uncleanable, first)
	d.Limit = segments[uncleanable].base
	d.Dirty = l.sizesOf(segments[first:uncleanable])
	clean := first
	if segments[first].base < from {
		clean++
	}
	d.Clean = l.sizesOf(segments[:clean])
	if oldest {
		d.Oldest, err = l.firstTimes(sealed[min(first, len(sealed)):])
	}
	return d, err
}

func (l *Log) sizesOf(segments []*segment) (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return sizeOf(segments)
}

// firstTimes is the least timestamp above zero with which one of the segments
// begins.
func (l *Log) firstTimes(segments []*segment) (int64, error) {
	least := record.NoTimestamp
	for _, s := range segments {
		ts, err := l.firstTimeOf(s)
		if err != nil {
			return least, err
		}
		if ts > 0 && (least < 0 || ts < least) {
			least = ts
		}
	}
	return least, nil
}

// firstTimeOf is loadFirstTime for a sealed segment and callers without a lock.
func (l *Log) firstTimeOf(s *segment) (int64, error) {
	l.mu.Lock()
	known, ts, empty := s.firstKnown, s.firstTime, s.size == 0
	l.mu.Unlock()
	switch {
	case known:
		return ts, nil
	case empty:
		return record.NoTimestamp, nil
	}
	h, err := l.openFile(s)
	if err != nil {
		return 0, err
	}
	defer h.release()
	var b [record.HeaderSize]byte
	if _, err := h.ReadAt(b[:], 0); err != nil {
		return 0, noEOF(err)
	}
	ts = record.Batch(b[:]).MaxTimestamp()
	l.mu.Lock()
	defer l.mu.Unlock()
	s.firstKnown, s.firstTime = true, ts
	return ts, nil
}
