package commitlog

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/internal/invariant"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// Log is one directory, open. Methods may be called concurrently.
type Log struct {
	fs   vfs.FS
	dir  string
	opts Options // Changed by Tune only, guarded by append.

	// removal is held by whoever takes segments away, also while the disk does.
	removal sync.Mutex
	// append is held by whoever changes the log.
	append sync.Mutex
	// markings are those between BeginMark and Finish.
	markings sync.WaitGroup
	// cleaning is the pass of compaction under way.
	cleaning cleaning

	mu struct {
		sync.Mutex
		// err is ErrOffline or ErrClosed with its reason, for ever.
		err error
		// segments by base; never empty. The last one is active.
		segments   []*segment
		start, end model.Offset
		// synced is the end of what is durable.
		synced model.Offset
		// dirChanges counts the files that were made, dirSynced those of them
		// whose names are durable.
		dirChanges, dirSynced int64
		// generation counts truncations; places and syncs of an older one are
		// void.
		generation int64
		places     places
		// deleted are segments that retention renamed and DeleteExpired removes.
		deleted []deletedSegment
		// held are removed files that readers keep open.
		held []deletedSegment
	}

	epochs epochs
	// mark is what was known at open; vouched is the end of what open did not
	// have to read, found the epochs of the batches that it did.
	mark    Mark
	kept    model.Offset // Log start, as the caller kept it.
	vouched model.Offset
	found   []EpochStart
	// truncations are those that may outdate a mark that the caller kept,
	// guarded by append.
	truncations []truncation
	// activeReady says that what an append needs to know of the active segment
	// was loaded; lastNow is the clock of the last Append. Guarded by append.
	activeReady bool
	lastNow     time.Time
}

type deletedSegment struct {
	base model.Offset
	at   time.Time // When it was deleted or, if it is held, removed.
	file *handle   // Nil if it was not open.
	size int64
}

// Start is the first offset that may be read.
func (l *Log) Start() model.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.start
}

// End is the offset that the next record gets.
func (l *Log) End() model.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.end
}

// SyncedEnd is the end of what a power cut leaves. After Open it may lie below
// End: what was recovered above the mark is readable, and durable with the next
// Sync.
func (l *Log) SyncedEnd() model.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.synced
}

// Err returns nil, or why the log can no longer be used: ErrOffline, ErrClosed.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.err
}

// Dir is the directory.
func (l *Log) Dir() string { return l.dir }

// Size is the bytes of all segments, without their indexes.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sizeLocked()
}

func (l *Log) sizeLocked() int64 {
	var total int64
	for _, s := range l.mu.segments {
		total += s.size
	}
	return total
}

// Segments is how many segments there are.
func (l *Log) Segments() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.segments)
}

// Append gives offsets from the end on to one or more whole batches, stamps
// them with the leader's epoch and writes them with one write. It changes b in
// place: base offsets and leader epochs, which no checksum covers. What the
// records are worth was checked before; here only lengths and offset deltas
// are. now matters for batches without timestamps.
//
// It returns the offset of the first record and the end of the log. An error
// leaves the log as it was; syscall.ENOSPC, and only it, may go away by itself.
func (l *Log) Append(b []byte, epoch model.Epoch, now time.Time) (base, end model.Offset, err error) {
	l.append.Lock()
	defer l.append.Unlock()
	l.lastNow = now
	base = l.End()
	in, err := stamp(b, base, epoch)
	if err != nil {
		return 0, 0, l.wrap("append", err)
	}
	if err := l.appendBatches(b, in); err != nil {
		return 0, 0, l.wrap("append", err)
	}
	return base, in.end, nil
}

// AppendAt writes batches that already have their offsets and epochs, as a
// follower does. Their first offset must not lie below the end; it may lie
// above, when compaction left a hole at the leader. The first batch decides the
// start of an empty log only through TruncateFullyAndStartAt.
func (l *Log) AppendAt(b []byte) (end model.Offset, err error) {
	l.append.Lock()
	defer l.append.Unlock()
	in, err := inspect(b, l.End())
	if err != nil {
		return 0, l.wrap("append", err)
	}
	if err := l.appendBatches(b, in); err != nil {
		return 0, l.wrap("append", err)
	}
	return in.end, nil
}

func (l *Log) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("commitlog: %s %s: %w", what, l.dir, err)
}

// incoming is what an append has to know of its batches.
type incoming struct {
	first, end model.Offset
	maxTime    int64
	epoch      model.Epoch // The greatest.
}

func stamp(b []byte, base model.Offset, epoch model.Epoch) (incoming, error) {
	in := incoming{first: base, end: base, maxTime: record.NoTimestamp, epoch: epoch}
	for rest := b; len(rest) > 0; {
		batch, tail, err := record.Next(rest)
		if err != nil {
			return in, err
		}
		if batch.LastOffsetDelta() < 0 {
			return in, errShape
		}
		batch.SetBaseOffset(in.end)
		batch.SetLeaderEpoch(epoch)
		in.end = batch.End()
		in.maxTime = max(in.maxTime, batch.MaxTimestamp())
		rest = tail
	}
	return in, nil
}

func inspect(b []byte, end model.Offset) (incoming, error) {
	in := incoming{end: end, maxTime: record.NoTimestamp, epoch: model.NoEpoch}
	for rest := b; len(rest) > 0; {
		batch, tail, err := record.Next(rest)
		if err != nil {
			return in, err
		}
		if batch.LastOffsetDelta() < 0 {
			return in, errShape
		}
		if batch.BaseOffset() < in.end {
			return in, fmt.Errorf("%w: batch at %d, end %d", ErrNotNext, batch.BaseOffset(), in.end)
		}
		if len(rest) == len(b) {
			in.first = batch.BaseOffset()
		}
		in.end = batch.End()
		in.maxTime = max(in.maxTime, batch.MaxTimestamp())
		in.epoch = max(in.epoch, batch.LeaderEpoch())
		rest = tail
	}
	return in, nil
}

// appendBatches writes stamped batches. Caller holds append.
func (l *Log) appendBatches(b []byte, in incoming) error {
	if err := l.Err(); err != nil {
		return err
	}
	if len(b) == 0 {
		return nil
	}
	s, err := l.segmentFor(int64(len(b)), in)
	if err != nil {
		return err
	}
	if err := l.noteEpochs(b, in); err != nil {
		return err
	}
	h, err := l.openFile(s)
	if err != nil {
		return err
	}
	defer h.release()
	if n, err := h.WriteAt(b, s.size); err != nil {
		return l.undoWrite(h, s, n, err)
	}
	l.publish(s, b, in)
	if len(s.offsets.tail) >= indexBlock || len(s.times.tail) >= indexBlock {
		l.flushIndexes(s) // Best effort: the entries stay in memory until it works.
	}
	return nil
}

// undoWrite cuts a partial write away, durably, lest its batches follow a later
// append of the same length after a crash. If that works and the disk was only
// full, the log goes on.
func (l *Log) undoWrite(h *handle, s *segment, n int, err error) error {
	if n > 0 {
		terr := h.Truncate(s.size)
		if terr == nil {
			terr = h.Sync()
		}
		if terr != nil {
			return l.fail(errors.Join(err, terr))
		}
	}
	if !isFull(err) {
		return l.fail(err)
	}
	return err
}

func (l *Log) publish(s *segment, b []byte, in incoming) {
	l.mu.Lock()
	defer l.mu.Unlock()
	invariant.Must(in.first >= l.mu.end && in.end > in.first, "append not behind the end")
	l.mu.places.add(place{in.first, s.base, s.size})
	for rest := b; len(rest) > 0; {
		batch, tail, err := record.Next(rest)
		if err != nil {
			panic("commitlog: batch changed during append")
		}
		s.note(batch, s.size, l.opts.IndexInterval)
		rest = tail
	}
	l.mu.end = in.end
	l.mu.places.add(place{in.end, s.base, s.size})
}

// fail takes the log offline and returns the error to report.
func (l *Log) fail(err error) error {
	l.mu.Lock()
	first := l.mu.err == nil
	if first {
		l.mu.err = fmt.Errorf("%w: %w", ErrOffline, err)
	}
	err = l.mu.err
	l.mu.Unlock()
	if first {
		l.event(Event{Kind: EventOffline, Err: err})
	}
	return err
}

func (l *Log) event(e Event) {
	e.Dir = l.dir
	l.opts.Events(e)
}

// active is the segment that grows. Caller holds append.
func (l *Log) active() *segment { return l.mu.segments[len(l.mu.segments)-1] }

// segmentFor returns the segment that takes an append, rolling if it must.
func (l *Log) segmentFor(n int64, in incoming) (*segment, error) {
	if n > l.opts.SegmentBytes {
		return nil, fmt.Errorf("%w: %d bytes, segment.bytes %d", ErrTooLarge, n, l.opts.SegmentBytes)
	}
	s := l.active()
	if err := l.readyActive(s); err != nil {
		return nil, err
	}
	if in.end-1-in.first > maxRelative {
		return nil, errShape // One append spans more than a segment can.
	}
	far := in.end-1-s.base > maxRelative
	if !far && (s.size == 0 || !l.mustRoll(s, n, in.maxTime)) {
		return s, nil
	}
	base := l.End()
	if far {
		// The only roll that may leave a gap between segments. What comes before it is
		// synced first, so that recovery need not ask whether the gap is a loss.
		if err := l.syncHeld(); err != nil {
			return nil, err
		}
		base = in.first
	}
	if err := l.rollTo(base); err != nil {
		return nil, err
	}
	return l.active(), nil
}

func (l *Log) mustRoll(s *segment, n, maxTime int64) bool {
	return s.size+n > l.opts.SegmentBytes ||
		s.offsets.bytes()+offsetWidth > l.opts.MaxIndexBytes ||
		s.times.bytes()+2*timeWidth > l.opts.MaxIndexBytes || // One is kept for the roll.
		l.age(s, maxTime) > (l.opts.SegmentAge-l.jitter(s.base)).Milliseconds()
}

// jitter is by how much a segment's age is shortened: by chance, as its name
// has it, and so for good.
func (l *Log) jitter(base model.Offset) time.Duration {
	most := min(l.opts.SegmentJitter, l.opts.SegmentAge).Milliseconds()
	if most <= 0 {
		return 0
	}
	h := fnv.New64a()
	io.WriteString(h, l.path(base, logSuffix))
	return time.Duration(h.Sum64()%uint64(most)) * time.Millisecond
}

// age is how far, in milliseconds, a batch lies behind the first of its
// segment: by timestamps or, where there are none, by the clock.
func (l *Log) age(s *segment, maxTime int64) int64 {
	if s.firstKnown && s.firstTime >= 0 {
		return maxTime - s.firstTime
	}
	if l.lastNow.IsZero() {
		return 0
	}
	if s.created.IsZero() {
		s.created = l.lastNow
	}
	return l.lastNow.Sub(s.created).Milliseconds()
}

// readyActive loads what an append needs to know of a segment that was found
// at open.
func (l *Log) readyActive(s *segment) error {
	if l.activeReady {
		return nil
	}
	if err := l.loadIndexes(s); err != nil {
		return err
	}
	if err := l.loadTimes(s); err != nil {
		return err
	}
	if err := l.loadFirstTime(s); err != nil {
		return err
	}
	l.activeReady = true
	return nil
}

// Roll begins a new segment unless the active one is empty.
func (l *Log) Roll() error {
	l.append.Lock()
	defer l.append.Unlock()
	return l.wrap("roll", l.roll())
}

func (l *Log) roll() error {
	if err := l.Err(); err != nil {
		return err
	}
	if s := l.active(); s.size == 0 {
		return nil
	} else if err := l.readyActive(s); err != nil {
		return err
	}
	return l.rollTo(l.End())
}

// rollTo seals the active segment and begins another one at base.
func (l *Log) rollTo(base model.Offset) error {
	old := l.active()
	l.mu.Lock()
	old.noteTime() // Kafka's: the last entry of a sealed time index is its greatest timestamp.
	l.mu.Unlock()
	if err := l.flushIndexes(old); err != nil {
		return err
	}
	l.giveBack(old)
	if l.opts.Snapshot != nil && old.size > 0 {
		if snap := l.opts.Snapshot(); snap != nil {
			if err := l.WriteSnapshot(l.End(), snap); err != nil {
				return err
			}
		}
	}
	s, err := l.createSegment(base)
	if err != nil {
		return err
	}
	l.mu.Lock()
	if old.size == 0 && old.base != base {
		l.mu.segments = l.mu.segments[:len(l.mu.segments)-1]
		old.closeLocked()
		l.removeFiles(old.base) // Best effort: an empty segment does no harm.
	}
	l.mu.segments = append(slices.Clip(l.mu.segments), s)
	l.mu.Unlock()
	l.activeReady = true
	l.event(Event{Kind: EventRolled, Segment: base, Offset: base})
	return nil
}

// giveBack frees what was reserved for a segment and not needed. Best effort: the
// space goes with the segment at the latest.
func (l *Log) giveBack(s *segment) {
	if !s.reserved {
		return
	}
	if h, err := l.openFile(s); err == nil {
		h.Truncate(s.size)
		h.release()
		s.reserved = false
	}
}

// createSegment makes the empty files of a segment, all three so that Kafka
// finds nothing to rebuild.
func (l *Log) createSegment(base model.Offset) (*segment, error) {
	s := l.newSegment(base)
	s.setEmpty()
	for _, suffix := range [...]string{indexSuffix, timeSuffix} {
		f, err := l.fs.Create(l.path(base, suffix))
		if err != nil {
			return nil, err
		}
		f.Close()
	}
	s.offsets.untrimmed, s.times.untrimmed = false, false
	f, err := l.fs.Create(l.path(base, logSuffix))
	if err != nil {
		return nil, err
	}
	if l.opts.Preallocate {
		f.Reserve(l.opts.SegmentBytes) // Best effort: without it, appends take the space as they come.
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.file, s.used, s.reserved = newHandle(f), true, l.opts.Preallocate
	l.mu.dirChanges++
	return s, nil
}

func (l *Log) flushIndexes(s *segment) error {
	if err := s.offsets.flush(l.fs, &l.mu); err != nil {
		return err
	}
	return s.times.flush(l.fs, &l.mu)
}

// Idle closes the files that nobody used since the last Idle and forgets what
// can be read again.
func (l *Log) Idle() {
	l.append.Lock()
	defer l.append.Unlock()
	l.mu.Lock()
	idle := !l.active().used
	for _, s := range l.mu.segments {
		if !s.used && !s.swapping {
			s.closeLocked()
			s.aborted, s.txnsKnown = nil, false
			s.offsets.hot = nil
		}
		s.used = false
	}
	l.mu.Unlock()
	if idle && l.Err() == nil {
		l.flushIndexes(l.active()) // Best effort: gives the memory back.
	}
}

// Close writes the indexes out and closes the files. It does not sync: a clean
// shutdown takes a mark first. When it returns, nothing of this log touches the
// directory any more, which may be renamed and made anew: it waits for a
// marking or a deletion that has begun, and ends a cleaning.
func (l *Log) Close() error {
	l.cleaning.close()
	l.removal.Lock()
	defer l.removal.Unlock()
	err := l.close()
	l.markings.Wait()
	return err
}

func (l *Log) close() error {
	l.append.Lock()
	defer l.append.Unlock()
	err := l.Err()
	if errors.Is(err, ErrClosed) {
		return nil
	}
	if err == nil && l.activeReady {
		err = l.closeIndexes()
	}
	if err == nil {
		l.giveBack(l.active())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.err = ErrClosed
	for _, s := range l.mu.segments {
		s.closeLocked()
	}
	if errors.Is(err, ErrOffline) {
		err = nil // It was told when it happened.
	}
	return l.wrap("close", err)
}

func (l *Log) closeIndexes() error {
	s := l.active()
	l.mu.Lock()
	s.noteTime()
	l.mu.Unlock()
	return l.flushIndexes(s)
}
