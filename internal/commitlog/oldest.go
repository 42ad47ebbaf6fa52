package commitlog

import (
	"slices"
	"time"
)

// Oldest tells what deletion would take next.
type Oldest struct {
	// Time is the greatest timestamp in the segment, in milliseconds since 1970,
	// or when its file was last changed if no record has one.
	Time int64
	// Bytes is its size.
	Bytes int64
	// Sealed says that it is not the active segment.
	Sealed bool
}

// Oldest describes the first segment. Of one that is not sealed Time only
// grows.
func (l *Log) Oldest() (Oldest, error) {
	o, err := again(l, l.oldest)
	return o, l.wrap("oldest", err)
}

func (l *Log) oldest() (Oldest, error) {
	l.mu.Lock()
	s := l.mu.segments[0]
	o := Oldest{Bytes: s.size, Sealed: len(l.mu.segments) > 1}
	err := l.mu.err
	l.mu.Unlock()
	if err == nil && o.Bytes > 0 {
		o.Time, err = l.timeOf(s)
	}
	return o, err
}

// timeOf asks the records of a segment or, if none has a timestamp, its file.
func (l *Log) timeOf(s *segment) (int64, error) {
	if err := l.loadTimes(s); err != nil {
		return 0, err
	}
	l.mu.Lock()
	ts := s.maxTime
	if ts < 0 {
		ts = s.changed
	}
	l.mu.Unlock()
	if ts >= 0 {
		return ts, nil
	}
	info, err := l.fs.Stat(l.path(s.base, logSuffix))
	if err != nil && l.isGone(s) {
		err = errGone
	}
	return info.ModTime, err
}

// Waiting is how many deleted segments wait for DeleteExpired.
func (l *Log) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.deleted)
}

// ActiveSize is the bytes of the active segment.
func (l *Log) ActiveSize() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.active().size
}

// holdLocked remembers removed files that somebody reads: their space comes
// back when he is done.
func (l *Log) holdLocked(removed []deletedSegment, now time.Time) {
	l.mu.held = slices.DeleteFunc(l.mu.held, func(d deletedSegment) bool { return d.file.refs.Load() == 0 })
	for _, d := range removed {
		if d.file != nil && d.file.refs.Load() > 0 {
			d.at = now
			l.mu.held = append(l.mu.held, d)
		}
	}
}

// Held is the bytes of the largest file that was removed after a moment and that
// somebody still reads.
func (l *Log) Held(after time.Time) (bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.mu.held {
		if d.file.refs.Load() > 0 && d.at.After(after) {
			bytes = max(bytes, d.size)
		}
	}
	return bytes
}
