package commitlog

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/barnabas-log/barnabas/internal/invariant"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// Syncing is a sync between BeginSync and FinishSync. In between the caller
// makes the files durable, by Flush or by one vfs.FS.SyncFS for many logs,
// without any lock held.
type Syncing struct {
	l          *Log
	end        model.Offset
	generation int64
	// dir says that names have to be synced too, up to the change dirSeq.
	dir    bool
	dirSeq int64
	// first is the file of nearly every sync, more are the others: a segment
	// was rolled since the last one.
	first syncTarget
	more  []syncTarget
}

type syncTarget struct {
	s    *segment
	file *handle
	size int64
}

// End is what SyncedEnd will be.
func (s *Syncing) End() model.Offset { return s.end }

// Empty reports that there is nothing to sync.
func (s *Syncing) Empty() bool { return s.first.s == nil && !s.dir }

// BeginSync notes what is not durable. FinishSync must follow.
func (l *Log) BeginSync() (Syncing, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err != nil {
		return Syncing{}, l.mu.err
	}
	s := Syncing{
		l: l, end: l.mu.end, generation: l.mu.generation,
		dir: l.mu.dirChanges > l.mu.dirSynced, dirSeq: l.mu.dirChanges,
	}
	for i := len(l.mu.segments) - 1; i >= 0; i-- {
		seg := l.mu.segments[i]
		if seg.synced == seg.size {
			// Sealed segments are synced in order, an empty active one says
			// nothing of those before it.
			if seg.size == 0 {
				continue
			}
			break
		}
		h, err := l.openLocked(seg)
		if err != nil {
			s.release()
			return Syncing{}, err
		}
		s.add(syncTarget{seg, h, seg.size})
	}
	return s, nil
}

func (s *Syncing) add(t syncTarget) {
	if s.first.s == nil {
		s.first = t
	} else {
		s.more = append(s.more, t)
	}
}

func (s *Syncing) each(f func(*syncTarget)) {
	if s.first.s != nil {
		f(&s.first)
	}
	for i := range s.more {
		f(&s.more[i])
	}
}

func (s *Syncing) release() { s.each(func(t *syncTarget) { t.file.release() }) }

// Flush makes the files of this log durable.
func (s *Syncing) Flush() error {
	var errs error
	s.each(func(t *syncTarget) {
		if err := t.file.Sync(); err != nil && errs == nil {
			errs = err
		}
	})
	if errs == nil && s.dir {
		errs = s.l.fs.SyncDir(s.l.dir)
	}
	return errs
}

// FinishSync tells the outcome: nil raises SyncedEnd, an error takes the log
// offline.
func (l *Log) FinishSync(s Syncing, err error) error {
	defer s.release()
	if err != nil {
		return l.wrap("sync", l.fail(err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.dirSynced = max(l.mu.dirSynced, s.dirSeq)
	if s.generation != l.mu.generation {
		return nil // A truncation came between; it synced what it left.
	}
	s.each(func(t *syncTarget) { t.s.synced = max(t.s.synced, t.size) })
	l.mu.synced = max(l.mu.synced, s.end)
	invariant.Must(l.mu.synced <= l.mu.end, "synced beyond the end")
	return nil
}

// Sync makes everything appended so far durable.
func (l *Log) Sync() error {
	s, err := l.BeginSync()
	if err != nil {
		return l.wrap("sync", err)
	}
	return l.FinishSync(s, s.Flush())
}

// syncHeld is Sync for callers that hold append.
func (l *Log) syncHeld() error { return l.Sync() }

// Marking is a mark between BeginMark and Finish.
type Marking struct {
	l        *Log
	mark     Mark
	snapshot []byte
	sync     Syncing
	indexes  []string
}

// BeginMark notes the state that a mark is to describe. snapshot is the encoded
// producer state at the end of the log, nil if it is empty; the caller keeps
// the end where it is until BeginMark returns. Nothing is synced yet.
func (l *Log) BeginMark(snapshot []byte) (*Marking, error) {
	l.append.Lock()
	defer l.append.Unlock()
	if err := l.Err(); err != nil {
		return nil, err
	}
	active := l.active()
	if err := l.readyActive(active); err != nil {
		return nil, l.wrap("mark", err)
	}
	if err := l.flushIndexes(active); err != nil {
		return nil, l.wrap("mark", err)
	}
	sync, err := l.BeginSync()
	if err != nil {
		return nil, l.wrap("mark", err)
	}
	m := &Marking{l: l, snapshot: slices.Clone(snapshot), sync: sync}
	l.markings.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	m.mark = Mark{
		Offset: l.mu.end, Segment: active.base, Position: active.size, Start: l.mu.start,
		MaxTimestamp: active.maxTime, MaxTimestampOffset: active.maxTimeOffset,
		IndexEntries: int32(active.offsets.count()), TimeEntries: int32(active.times.count()),
		Producers: snapshot != nil, Generation: l.mu.generation,
	}
	m.collectIndexesLocked()
	return m, nil
}

// collectIndexesLocked lists the index files written since they were last
// synced.
func (m *Marking) collectIndexesLocked() {
	for _, s := range m.l.mu.segments {
		for _, x := range [...]*sparse{&s.offsets, &s.times} {
			if x.dirty {
				x.dirty = false
				m.indexes = append(m.indexes, x.path)
			}
		}
		if s.txnsDirty {
			s.txnsDirty = false
			m.indexes = append(m.indexes, m.l.path(s.base, txnSuffix))
		}
	}
}

// Finish syncs data, indexes and snapshot and returns the mark, for the caller
// to keep. The previous mark stays good until the caller has kept this one. One
// marking of a log at a time; every one that began is to be finished.
func (m *Marking) Finish() (Mark, error) {
	defer m.l.markings.Done()
	beside := m.flushBeside()
	if err := m.l.FinishSync(m.sync, m.sync.Flush()); err != nil {
		return Mark{}, err
	}
	if beside != nil {
		return Mark{}, m.l.wrap("mark", beside)
	}
	m.l.trimSnapshots()
	return m.mark, nil
}

// flushBeside makes everything but the batches durable.
func (m *Marking) flushBeside() error {
	l := m.l
	for _, path := range m.indexes {
		if err := syncFile(l.fs, path); err != nil {
			return l.fail(fmt.Errorf("index: %w", err))
		}
	}
	if m.snapshot == nil {
		return nil
	}
	return vfs.WriteFile(l.fs, l.path(m.mark.Offset, snapshotSuffix), m.snapshot)
}

// Checkpoint is BeginMark and Finish: it makes everything durable and returns
// the mark that says so.
func (l *Log) Checkpoint(snapshot []byte) (Mark, error) {
	m, err := l.BeginMark(snapshot)
	if err != nil {
		return Mark{}, err
	}
	return m.Finish()
}
