package commitlog

import (
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// Truncate cuts the log back: no batch that reaches to or beyond the offset
// stays. It is durable when it returns, and so is all that it left. An offset
// at or above the end changes nothing; one below the start restarts the log
// there.
func (l *Log) Truncate(to model.Offset) error {
	l.removal.Lock()
	defer l.removal.Unlock()
	l.append.Lock()
	defer l.append.Unlock()
	return l.wrap("truncate", l.truncate(to))
}

func (l *Log) truncate(to model.Offset) error {
	if err := l.Err(); err != nil {
		return err
	}
	if to >= l.End() {
		return nil
	}
	if to <= l.mu.segments[0].base {
		return l.restart(to)
	}
	keep := l.segmentIndexOf(to - 1)
	s := l.mu.segments[keep]
	pos, end, err := l.cutPoint(s, to)
	if err != nil {
		return err
	}
	if err := l.outdateMarks(truncation{offset: end, segment: s.base}); err != nil {
		return err
	}
	if err := l.cutSegments(keep+1, s, pos, end); err != nil {
		return l.fail(err) // Half done: only opening anew tells what is there.
	}
	l.event(Event{Kind: EventTruncated, Segment: s.base, Offset: end})
	return nil
}

func (l *Log) segmentIndexOf(o model.Offset) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.segmentIndexLocked(o)
}

// cutPoint is the position in a segment at which the batches below an offset
// end, and the end of the last of them.
func (l *Log) cutPoint(s *segment, to model.Offset) (pos int64, end model.Offset, err error) {
	h, err := l.openFile(s)
	if err != nil {
		return 0, 0, err
	}
	defer h.release()
	r := reading{segment: s, base: s.base, size: s.size, offsets: s.offsets, generation: l.mu.generation}
	sc := newScanner(h, l.lastBefore(&r, to, s.size), s.size)
	defer sc.close()
	end = s.base
	for sc.next() && sc.header.LastOffset() < to {
		end = sc.header.End()
	}
	return sc.pos, end, sc.err
}

// cutSegments removes the segments from index gone on and shortens s.
func (l *Log) cutSegments(gone int, s *segment, pos int64, end model.Offset) error {
	removed := l.mu.segments[gone:]
	l.mu.Lock()
	l.mu.segments = slices.Clone(l.mu.segments[:gone])
	l.mu.generation++
	l.mu.places.forget()
	l.mu.end = end
	l.mu.start, l.mu.synced = min(l.mu.start, end), min(l.mu.synced, end)
	shrunk := pos < s.size
	s.size = pos
	l.mu.Unlock()
	for _, r := range slices.Backward(removed) {
		l.mu.Lock()
		r.gone = true
		r.closeLocked()
		l.mu.Unlock()
		if err := l.removeFiles(r.base); err != nil {
			return err
		}
	}
	if shrunk {
		if err := l.shorten(s, pos, end); err != nil {
			return err
		}
	}
	if err := l.syncWhatIsLeft(); err != nil {
		return err
	}
	if err := l.removeSnapshots(end); err != nil {
		return err
	}
	if err := l.trimEpochs(l.firstBase(), end); err != nil {
		return err
	}
	l.activeReady = false
	return l.fs.SyncDir(l.dir)
}

// shorten cuts the file of a segment and its indexes.
func (l *Log) shorten(s *segment, pos int64, end model.Offset) error {
	h, err := l.openFile(s)
	if err != nil {
		return err
	}
	defer h.release()
	if err := cutFile(h, pos); err != nil {
		return err
	}
	if err := l.loadIndexes(s); err != nil {
		return err
	}
	var e [timeWidth]byte
	entries, err := s.offsets.search(l.fs, &e, func(e []byte) bool {
		_, p := entryOffset(e)
		return int64(p) >= pos
	})
	if err != nil {
		return err
	}
	rel := relative(s.base, end)
	times, err := s.times.search(l.fs, &e, func(e []byte) bool {
		_, o := entryTime(e)
		return o >= rel
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	s.offsets.truncate(entries)
	s.times.truncate(times)
	s.timesKnown, s.maxTime, s.maxTimeOffset = false, record.NoTimestamp, s.base
	s.sinceIndex = 0
	s.firstKnown = s.firstKnown && pos > 0
	s.synced = min(s.synced, pos)
	l.mu.Unlock()
	if err := l.truncateTxns(s, end); err != nil {
		return err
	}
	return l.flushIndexes(s)
}

// syncWhatIsLeft makes everything below the cut durable: what is appended there
// next must not be followed by what was cut.
func (l *Log) syncWhatIsLeft() error {
	sync, err := l.BeginSync()
	if err != nil {
		return err
	}
	if err := l.FinishSync(sync, sync.Flush()); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.synced = l.mu.end
	return nil
}

// TruncateFullyAndStartAt removes everything; the log is empty and goes on at
// an offset. Durable when it returns.
func (l *Log) TruncateFullyAndStartAt(o model.Offset) error {
	l.removal.Lock()
	defer l.removal.Unlock()
	l.append.Lock()
	defer l.append.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	return l.wrap("truncate", l.restart(o))
}

func (l *Log) restart(o model.Offset) error {
	if err := l.outdateMarks(truncation{offset: o, segment: o, restart: true, pending: true}); err != nil {
		return err
	}
	if err := l.restartAt(o); err != nil {
		return l.fail(err)
	}
	l.event(Event{Kind: EventTruncated, Segment: o, Offset: o})
	return nil
}

func (l *Log) restartAt(o model.Offset) error {
	l.mu.Lock()
	removed := l.mu.segments
	for _, s := range removed {
		s.closeLocked()
	}
	l.mu.generation++
	l.mu.places.forget()
	l.mu.start, l.mu.end, l.mu.synced = o, o, o
	l.mu.Unlock()
	for _, s := range slices.Backward(removed) {
		if err := l.removeFiles(s.base); err != nil {
			return err
		}
	}
	if err := l.removeSnapshots(-1); err != nil {
		return err
	}
	s, err := l.createSegment(o)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.mu.segments = []*segment{s}
	l.mu.Unlock()
	l.activeReady = true
	if err := l.trimEpochs(o, o); err != nil {
		return err
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	return l.restartDone()
}

// SetStart moves the start of the log up, for DeleteRecords or because the
// leader's did. It changes memory only; the next mark that the caller keeps
// makes it durable. Segments that lie wholly below go with the next Retain.
func (l *Log) SetStart(o model.Offset) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err != nil {
		return l.mu.err
	}
	if o > l.mu.end {
		return l.wrap("set start", ErrOutOfRange)
	}
	l.mu.start = max(l.mu.start, o)
	return nil
}

// Retention says how much a log keeps. Zero values keep everything.
type Retention struct {
	// Age deletes segments whose greatest timestamp is older (retention.ms);
	// ignored if not positive.
	Age time.Duration
	// Bytes deletes the oldest segments while the others hold at least as many
	// (retention.bytes); ignored if not positive.
	Bytes int64
	// Oldest deletes so many of the oldest segments, whatever the rest says.
	Oldest int
	// Limit keeps the segments that reach beyond it: the commit point.
	Limit model.Offset
}

// RollExpired rolls an active segment whose records are all older than r.Age,
// so that Retain can delete it. Rolling asks for a snapshot of the end of the
// log: whoever keeps the producer state calls it as he calls Append. Nothing is
// synced.
func (l *Log) RollExpired(now time.Time, r Retention) error {
	l.append.Lock()
	defer l.append.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	s := l.active()
	if s.size == 0 || r.Age <= 0 || l.End() > r.Limit {
		return nil
	}
	l.lastNow = now
	old, err := l.olderThan(s, now.Add(-r.Age))
	if err == nil && old {
		err = l.roll()
	}
	return l.wrap("roll", err)
}

// Retain deletes the segments that retention, or the log start, gives up, oldest
// first, and moves the start. The active segment stays: see RollExpired.
// Deletion is a rename to .deleted, durable when Retain returns; DeleteExpired
// frees the space. It returns how many segments were deleted. Appends go on
// while it waits for the disk.
func (l *Log) Retain(now time.Time, r Retention) (int, error) {
	l.removal.Lock()
	defer l.removal.Unlock()
	gone, err := l.takeOut(now, r)
	if err != nil || len(gone) == 0 {
		return 0, l.wrap("retain", err)
	}
	if err := l.retire(gone); err != nil {
		return 0, l.wrap("retain", l.fail(err))
	}
	return len(gone), l.wrap("retain", l.forgetEpochs())
}

// takeOut takes the segments that may go out of memory.
func (l *Log) takeOut(now time.Time, r Retention) ([]*segment, error) {
	l.append.Lock()
	defer l.append.Unlock()
	if err := l.Err(); err != nil {
		return nil, err
	}
	l.lastNow = now
	n, err := l.retainable(now, r)
	if err != nil || n == 0 {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	gone := l.mu.segments[:n]
	l.mu.segments = slices.Clone(l.mu.segments[n:])
	l.mu.start = max(l.mu.start, l.mu.segments[0].base)
	for _, s := range gone {
		l.mu.deleted = append(l.mu.deleted, deletedSegment{s.base, now, s.file, s.size})
		s.gone = true
		s.closeLocked()
	}
	return gone, nil
}

// retainable counts the segments at the front that may go.
func (l *Log) retainable(now time.Time, r Retention) (int, error) {
	surplus := l.Size() - r.Bytes
	sealed := len(l.mu.segments) - 1
	for i, s := range l.mu.segments[:sealed] {
		end := l.mu.segments[i+1].base
		if end > r.Limit {
			return i, nil
		}
		gone := end <= l.Start() || i < r.Oldest || r.Bytes > 0 && surplus >= s.size
		if !gone && r.Age > 0 {
			old, err := l.olderThan(s, now.Add(-r.Age))
			if err != nil {
				return i, err
			}
			gone = old
		}
		if !gone {
			return i, nil
		}
		surplus -= s.size
	}
	return sealed, nil
}

// olderThan asks the records of a segment or, if none has a timestamp, its file.
func (l *Log) olderThan(s *segment, t time.Time) (bool, error) {
	ts, err := l.timeOf(s)
	return ts < t.UnixMilli(), err
}

// retire renames the files of segments, oldest first. Renaming the
// log is what deletes a segment; it is durable before the indexes follow, which
// without it are nothing, and before the next segment: a crash leaves no hole,
// and no segment without its aborted transactions.
func (l *Log) retire(gone []*segment) error {
	for _, s := range gone {
		if err := l.retireFile(s, logSuffix); err != nil {
			return err
		}
		if err := l.fs.SyncDir(l.dir); err != nil {
			return err
		}
		for _, suffix := range besideSuffixes {
			if err := l.retireFile(s, suffix); err != nil {
				return err
			}
		}
		l.event(Event{Kind: EventDeleted, Segment: s.base, Offset: s.base, Bytes: s.size})
	}
	return nil
}

func (l *Log) retireFile(s *segment, suffix string) error {
	path := l.path(s.base, suffix)
	if err := l.fs.Rename(path, path+deletedSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// DeleteExpired removes the files of segments that were deleted at least delay
// ago (file.delete.delay.ms). It returns how many segments still wait.
func (l *Log) DeleteExpired(now time.Time, delay time.Duration) (waiting int, err error) {
	l.removal.Lock()
	defer l.removal.Unlock()
	if err := l.Err(); errors.Is(err, ErrClosed) {
		return 0, err // The directory may belong to somebody else.
	}
	l.mu.Lock()
	due := 0
	for due < len(l.mu.deleted) && now.Sub(l.mu.deleted[due].at) >= delay {
		due++
	}
	gone := l.mu.deleted[:due]
	l.mu.deleted = l.mu.deleted[due:]
	l.holdLocked(gone, now)
	waiting = len(l.mu.deleted)
	l.mu.Unlock()
	for _, d := range gone {
		for _, suffix := range segmentSuffixes {
			rerr := l.fs.Remove(l.path(d.base, suffix) + deletedSuffix)
			if rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
				err = errors.Join(err, rerr)
			}
		}
	}
	return waiting, l.wrap("delete", err)
}
