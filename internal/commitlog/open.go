package commitlog

import (
	"path/filepath"
	"slices"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// listing is what a directory holds, by kind.
type listing struct {
	logs      []model.Offset
	snapshots []model.Offset
	// beside are the indexes that exist.
	beside  map[string]bool
	swapped bool
	stale   []string // Names to remove.
	outdate bool     // There is a truncation file.
}

// Open opens a directory, which must exist, and recovers what was written since
// the mark. With a mark that agrees with the sizes of the files nothing but the
// directory is read.
func Open(fs vfs.FS, dir string, opts Options) (*Log, error) {
	opts.setDefaults()
	l := &Log{fs: fs, dir: dir, opts: opts, mark: opts.Mark, kept: opts.Mark.Start}
	if l.mark.IsZero() {
		l.kept = opts.Start
	}
	if err := l.open(); err != nil {
		for _, s := range l.mu.segments {
			s.closeLocked() // Nobody else knows the log.
		}
		return nil, l.wrap("open", err)
	}
	return l, nil
}

func (l *Log) open() error {
	ls, err := l.list()
	if err != nil {
		return err
	}
	if ls.swapped || len(ls.stale) > 0 {
		if ls, err = l.tidy(ls); err != nil {
			return err
		}
	}
	if ls.outdate {
		if err := l.applyTruncations(); err != nil {
			return err
		}
	}
	l.mu.generation = l.mark.Generation
	for _, base := range ls.logs {
		s := l.newSegment(base)
		s.hasTxns = ls.beside[FileName(base, txnSuffix)]
		info, err := l.fs.Stat(l.path(base, logSuffix))
		if err != nil {
			return err
		}
		s.size = info.Size
		l.mu.segments = append(l.mu.segments, s)
	}
	if t, ok := l.interrupted(); ok {
		return l.restartAt(t.offset)
	}
	if err := l.recover(ls); err != nil {
		return err
	}
	return l.settle(ls)
}

func (l *Log) list() (listing, error) {
	infos, err := l.fs.ReadDir(l.dir)
	if err != nil {
		return listing{}, err
	}
	ls := listing{beside: make(map[string]bool, len(infos))}
	for _, info := range infos {
		ls.add(info)
	}
	slices.Sort(ls.logs)
	slices.Sort(ls.snapshots)
	for name := range ls.beside {
		base, _, _ := ParseFileName(name)
		if _, found := slices.BinarySearch(ls.logs, base); !found {
			ls.stale = append(ls.stale, name) // Its log went first.
		}
	}
	slices.Sort(ls.stale)
	return ls, nil
}

func (ls *listing) add(info vfs.Info) {
	if info.Name == truncationFile {
		ls.outdate = true
	}
	base, suffix, ok := ParseFileName(info.Name)
	if !ok || info.Dir {
		return
	}
	switch suffix {
	case logSuffix:
		ls.logs = append(ls.logs, base)
	case snapshotSuffix:
		ls.snapshots = append(ls.snapshots, base)
	case indexSuffix, timeSuffix, txnSuffix:
		ls.beside[info.Name] = true
	default:
		switch filepath.Ext(suffix) {
		case deletedSuffix, ".tmp":
			ls.stale = append(ls.stale, info.Name)
		case cleanedSuffix, swapSuffix:
			ls.swapped = true
		}
	}
}

// indexed reports that a segment has the indexes that it needs.
func (ls *listing) indexed(s *segment) bool {
	return s.size == 0 || ls.beside[FileName(s.base, indexSuffix)] && ls.beside[FileName(s.base, timeSuffix)]
}

// tidy finishes what the last owner left half done: files that retention or
// an incomplete cleaning left are removed, a complete cleaning is swapped in.
func (l *Log) tidy(ls listing) (listing, error) {
	for _, name := range ls.stale {
		if err := l.fs.Remove(filepath.Join(l.dir, name)); err != nil {
			return ls, err
		}
	}
	if ls.swapped {
		if err := l.finishSwaps(); err != nil {
			return ls, err
		}
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return ls, err
	}
	return l.list()
}

// recover decides which segments are trusted, reads the others, and drops what
// does not follow.
func (l *Log) recover(ls listing) error {
	segments := l.mu.segments
	next := model.NoOffset // End of the segment before, if it is known.
	good, changed := 0, false
	var read int64
	var repeated []*segment
	var err error
	for i, s := range segments {
		from := l.trusted(i, ls)
		if next > s.base {
			again, err := l.repeats(s, next)
			if err != nil {
				return err
			}
			if again {
				repeated = append(repeated, s)
				good = i + 1
				continue
			}
		}
		if next >= 0 && s.base != next && !l.mayGap(segments[i-1], s, from, next) {
			l.event(Event{Kind: EventDropped, Segment: s.base, Offset: next, Bytes: s.size})
			changed = true
			break
		}
		good = i + 1
		if from < 0 {
			s.synced = s.size
			if next, err = l.trust(s, ls); err != nil {
				return err
			}
			continue
		}
		if read == 0 {
			l.vouched = s.base
			if from > 0 {
				l.vouched = l.mark.Offset
			}
		}
		before := s.size
		var end model.Offset
		var cut bool
		end, cut, err = l.recoverSegment(s, from)
		if err != nil {
			return err
		}
		read += s.size - from
		next = end
		if cut {
			l.event(Event{Kind: EventTornTail, Segment: s.base, Offset: end, Bytes: before - s.size})
			changed = true
			break
		}
	}
	if err := l.drop(good, changed); err != nil {
		return err
	}
	if err := l.dropRepeated(repeated); err != nil {
		return err
	}
	return l.findEnd(next, read)
}

// repeats reports a segment that holds nothing beyond an offset, which is where
// the one before it ends. Compaction had put the two together when the directory
// was copied, and the copy has the new one and still the old one.
func (l *Log) repeats(s *segment, end model.Offset) (bool, error) {
	if s.size == 0 {
		return false, nil // The active one of that time: what follows is lost.
	}
	h, err := l.openFile(s)
	if err != nil {
		return false, err
	}
	defer s.closeLocked() // Nobody else knows the log yet.
	defer h.release()
	sc := newScanner(h, 0, s.size)
	defer sc.close()
	for sc.next() {
		if sc.header.End() > end {
			return false, nil
		}
	}
	return sc.err == nil, nil
}

func (l *Log) dropRepeated(segments []*segment) error {
	if len(segments) == 0 {
		return nil
	}
	for _, s := range segments {
		l.event(Event{Kind: EventDropped, Segment: s.base, Offset: s.base, Bytes: s.size})
		l.mu.segments = slices.DeleteFunc(l.mu.segments, func(x *segment) bool { return x == s })
		if err := l.removeFiles(s.base); err != nil {
			return err
		}
	}
	return l.fs.SyncDir(l.dir)
}

// trusted returns from which position a segment has to be read, -1 if not at
// all.
func (l *Log) trusted(i int, ls listing) int64 {
	s := l.mu.segments[i]
	if !l.mark.IsZero() {
		switch {
		case s.base < l.mark.Segment:
			return -1
		case s.base > l.mark.Segment:
			return 0
		case !ls.indexed(s):
			return 0 // Retention was about to take it.
		case s.size == l.mark.Position:
			return -1
		case s.size < l.mark.Position:
			l.event(Event{Kind: EventMarkLost, Segment: s.base, Offset: l.mark.Offset, Bytes: l.mark.Position - s.size})
			return 0
		}
		return l.mark.Position
	}
	if l.opts.Clean {
		return -1
	}
	if i+1 < len(l.mu.segments) && l.mu.segments[i+1].base <= l.opts.RecoveryPoint {
		return -1
	}
	return 0
}

// mayGap says whether a segment that does not begin where its predecessor ends
// may stay. A gap is a loss, except where Kafka's cleaner may have made it, or
// where offsets were too far apart for one segment: then the predecessor was
// synced before.
func (l *Log) mayGap(before, s *segment, from int64, end model.Offset) bool {
	if s.base < end {
		return false
	}
	return l.opts.Foreign || from < 0 || s.base-before.base > maxRelative
}

// trust takes a segment as it is and returns its end, if that is known. One
// that lacks an index gets it here, as in Kafka: readers would get by, slowly.
func (l *Log) trust(s *segment, ls listing) (model.Offset, error) {
	if s.base == l.mark.Segment && !l.mark.IsZero() {
		l.adoptMark(s)
		return l.mark.Offset, l.recoverTxns(s, l.mark.Offset)
	}
	if ls.indexed(s) {
		return model.NoOffset, nil
	}
	return model.NoOffset, l.rebuildIndexes(s)
}

// adoptMark takes from the mark what would have to be read from the indexes.
func (l *Log) adoptMark(s *segment) {
	s.offsets.reset(int(l.mark.IndexEntries))
	s.times.reset(int(l.mark.TimeEntries))
	s.timesKnown, s.maxTime, s.maxTimeOffset = true, l.mark.MaxTimestamp, l.mark.MaxTimestampOffset
}

// drop removes the segments from good on. When something was cut, the removal
// is durable before anything is appended: what was dropped must not follow it.
func (l *Log) drop(good int, changed bool) error {
	gone := l.mu.segments[good:]
	l.mu.segments = slices.Clip(l.mu.segments[:good])
	for _, s := range slices.Backward(gone) {
		if err := l.removeFiles(s.base); err != nil {
			return err
		}
	}
	if changed {
		return l.fs.SyncDir(l.dir)
	}
	return nil
}

// findEnd sets end and synced from the last segment.
func (l *Log) findEnd(next model.Offset, read int64) error {
	start := l.kept
	if len(l.mu.segments) == 0 {
		s, err := l.createSegment(start)
		if err != nil {
			return err
		}
		l.mu.segments = []*segment{s}
		l.activeReady = true
		l.mu.start, l.mu.end, l.mu.synced = start, start, start
		return nil
	}
	last := l.active()
	switch {
	case next >= 0:
	case last.size == 0:
		next = last.base
	default:
		var err error
		if next, err = l.readEnd(last); err != nil {
			return err
		}
	}
	l.mu.end = next
	l.mu.start = max(start, l.mu.segments[0].base)
	l.mu.synced = next
	if last.synced < last.size || read > 0 {
		l.mu.synced = min(next, max(l.mark.Offset, l.mu.segments[0].base))
		l.event(Event{Kind: EventRecovered, Segment: last.base, Offset: next, Bytes: read})
	}
	if read == 0 {
		l.vouched = next
	}
	if l.mark.IsZero() || last.base != l.mark.Segment || last.hasTxns {
		l.mu.dirChanges++ // The name of a file made after the mark may not be durable.
	}
	return nil
}

// readEnd finds the end of a segment from its last index entry.
func (l *Log) readEnd(s *segment) (model.Offset, error) {
	h, err := l.openFile(s)
	if err != nil {
		return 0, err
	}
	defer h.release()
	r := reading{segment: s, base: s.base, size: s.size, offsets: s.offsets}
	sc := newScanner(h, l.lookup(&r, func([]byte) bool { return false }), s.size)
	defer sc.close()
	end := s.base
	for sc.next() {
		end = sc.header.End()
	}
	return end, sc.err
}

// settle makes start, epochs and snapshots agree with what was recovered.
func (l *Log) settle(ls listing) error {
	if l.mu.start > l.mu.end {
		// Records were deleted up to an offset whose own record was lost.
		return l.restart(l.mu.start)
	}
	// A snapshot of what was recovered may have survived where the transaction
	// index beside it did not: the caller replays that part, and finds again
	// which transactions were aborted.
	removed := false
	for _, at := range ls.snapshots {
		if at > min(l.vouched, l.mu.end) {
			removed = true
			if err := l.fs.Remove(l.path(at, snapshotSuffix)); err != nil {
				return err
			}
		}
	}
	if removed {
		if err := l.fs.SyncDir(l.dir); err != nil {
			return err
		}
	}
	// Sealed segments are not written again: this is the time to trim.
	for _, s := range l.mu.segments[:len(l.mu.segments)-1] {
		if err := l.flushIndexes(s); err != nil {
			return err
		}
	}
	found := l.found
	l.found = nil
	if len(found) == 0 {
		return nil
	}
	return l.assign(found...)
}
