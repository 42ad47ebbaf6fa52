package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/barnabas-log/barnabas/model"
)

// A cleaned segment takes the place of its originals in steps, each durable
// before the next, so that a crash leaves the old ones or the new one. The
// names and what they mean at the next start are Kafka's:
//
//	.cleaned            written and synced; a start removes it
//	.cleaned → .swap    the log first; from here on it counts: a start that
//	                    finds a .swap, and no .cleaned before it, completes what follows
//	originals → .deleted
//	.swap → plain names

// errGone says that a reader holds a segment that was deleted or replaced
// meanwhile: what it reads by name is not of that segment. It looks again.
var errGone = errors.New("commitlog: segment is gone")

// again reads until no segment went away meanwhile.
func again[T any](l *Log, read func() (T, error)) (T, error) {
	for {
		v, err := read()
		if !errors.Is(err, errGone) {
			return v, err
		}
		if err := l.Err(); err != nil {
			return v, err
		}
	}
}

// isReplaced reports whether readers of a segment have to look again.
func (l *Log) isReplaced(s *segment) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.replaced
}

func (l *Log) isGone(s *segment) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.gone
}

// swap puts a cleaned segment in the place of old ones that follow one another.
// ErrChanged if they are not what was read any more; then nothing was done.
func (l *Log) swap(old []*segment, w *cleanWriter, generation int64, now time.Time) error {
	l.removal.Lock()
	defer l.removal.Unlock()
	if err := l.mayReplace(old, generation); err != nil {
		return err
	}
	suffixes := w.suffixes()
	if err := l.renameAll(w.base, suffixes, cleanedSuffix, swapSuffix); err != nil {
		return l.unswap(w, err)
	}
	s := w.sealed()
	l.replace(old, s, now)
	if err := l.completeSwap(old, s, suffixes); err != nil {
		return l.fail(err) // Only opening anew tells what is there.
	}
	l.event(Event{Kind: EventCleaned, Segment: s.base, Offset: s.base, Bytes: sizeOf(old) - s.size})
	return nil
}

func sizeOf(segments []*segment) (n int64) {
	for _, s := range segments {
		n += s.size
	}
	return n
}

// suffixes are those of the files that there are.
func (w *cleanWriter) suffixes() []string {
	if len(w.aborted) == 0 {
		return []string{logSuffix, indexSuffix, timeSuffix}
	}
	return segmentSuffixes[:]
}

// mayReplace looks whether the old segments are still there, and sealed.
func (l *Log) mayReplace(old []*segment, generation int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err != nil {
		return l.mu.err
	}
	first := slices.Index(l.mu.segments, old[0])
	if l.mu.generation != generation || first < 0 || first+len(old) >= len(l.mu.segments) ||
		!slices.Equal(l.mu.segments[first:first+len(old)], old) {
		return ErrChanged
	}
	return nil
}

func (l *Log) renameAll(base model.Offset, suffixes []string, from, to string) error {
	for _, suffix := range suffixes {
		path := l.path(base, suffix)
		if err := l.fs.Rename(path+from, path+to); err != nil {
			return err
		}
	}
	return l.fs.SyncDir(l.dir)
}

// unswap takes back a swap that has not begun to count, or takes the log
// offline.
func (l *Log) unswap(w *cleanWriter, err error) error {
	for _, suffix := range segmentSuffixes {
		rerr := l.fs.Remove(l.path(w.base, suffix) + swapSuffix)
		if rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			return l.fail(errors.Join(err, rerr))
		}
	}
	if serr := l.fs.SyncDir(l.dir); serr != nil {
		return l.fail(errors.Join(err, serr))
	}
	return err
}

// replace makes readers see the new segment.
func (l *Log) replace(old []*segment, s *segment, now time.Time) {
	l.append.Lock()
	defer l.append.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	first := slices.Index(l.mu.segments, old[0])
	l.mu.segments = slices.Concat(l.mu.segments[:first], []*segment{s}, l.mu.segments[first+len(old):])
	l.mu.places.forget()
	for _, o := range old {
		o.gone, o.replaced = true, true
		l.mu.deleted = append(l.mu.deleted, deletedSegment{o.base, now, o.file, o.size})
		o.closeLocked()
	}
}

func (l *Log) completeSwap(old []*segment, s *segment, suffixes []string) error {
	for _, o := range old {
		for _, suffix := range segmentSuffixes {
			if err := l.retireFile(o, suffix); err != nil {
				return err
			}
		}
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	if err := l.renameAll(s.base, suffixes, swapSuffix, ""); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.settle()
	return nil
}

// finishSwaps does at a start what LogLoader of Kafka does. A .cleaned file is
// not complete, and neither is a .swap at or behind it; both go. The other
// swaps are complete: what lies in the range of their offsets is replaced by
// them.
func (l *Log) finishSwaps() error {
	files, err := l.dropUnfinished()
	if err != nil {
		return err
	}
	from, to, err := l.swapRange(files)
	if err != nil {
		return err
	}
	for _, f := range files {
		if isSegmentFile(f.suffix) && f.base >= from && f.base < to {
			if err := l.fs.Remove(l.path(f.base, f.suffix)); err != nil {
				return err
			}
		}
	}
	// No new segment beside one that it replaced.
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	for _, f := range files {
		plain, swap := cutSuffix(f.suffix, swapSuffix)
		if !swap {
			continue
		}
		if err := l.fs.Rename(l.path(f.base, f.suffix), l.path(f.base, plain)); err != nil {
			return err
		}
	}
	return nil // The caller syncs the names.
}

// swapFile is a file of the directory that belongs to an offset.
type swapFile struct {
	base   model.Offset
	suffix string
}

func cutSuffix(suffix, last string) (plain string, ok bool) {
	n := len(suffix) - len(last)
	if n <= 0 || suffix[n:] != last {
		return suffix, false
	}
	return suffix[:n], true
}

func isSegmentFile(suffix string) bool { return slices.Contains(segmentSuffixes[:], suffix) }

// dropUnfinished removes the files of cleanings that were not complete, and
// returns the others.
func (l *Log) dropUnfinished() ([]swapFile, error) {
	infos, err := l.fs.ReadDir(l.dir)
	if err != nil {
		return nil, err
	}
	var files []swapFile
	unfinished := model.Offset(1<<63 - 1)
	for _, info := range infos {
		base, suffix, ok := ParseFileName(info.Name)
		if !ok || info.Dir {
			continue
		}
		if _, cleaned := cutSuffix(suffix, cleanedSuffix); cleaned {
			unfinished = min(unfinished, base)
		}
		files = append(files, swapFile{base, suffix})
	}
	// The swaps first: a .cleaned that is gone would make them count.
	drop := func(last string) (err error) {
		files = slices.DeleteFunc(files, func(f swapFile) bool {
			_, is := cutSuffix(f.suffix, last)
			if err != nil || !is || f.base < unfinished {
				return false
			}
			err = l.fs.Remove(l.path(f.base, f.suffix))
			return err == nil
		})
		return err
	}
	if err := drop(swapSuffix); err != nil {
		return nil, err
	}
	if unfinished < 1<<63-1 {
		if err := l.fs.SyncDir(l.dir); err != nil {
			return nil, err
		}
	}
	return files, drop(cleanedSuffix)
}

// swapRange is the range of the offsets in complete swaps; empty if there are
// none.
func (l *Log) swapRange(files []swapFile) (from, to model.Offset, err error) {
	from, to = 1<<63-1, -1
	for _, f := range files {
		if f.suffix != logSuffix+swapSuffix {
			continue
		}
		end, err := l.endOfFile(f)
		if err != nil {
			return 0, 0, err
		}
		from, to = min(from, f.base), max(to, end)
	}
	return from, to, nil
}

func (l *Log) endOfFile(f swapFile) (model.Offset, error) {
	h, err := l.fs.Open(l.path(f.base, f.suffix))
	if err != nil {
		return 0, err
	}
	defer h.Close()
	size, err := h.Size()
	if err != nil {
		return 0, err
	}
	sc := newScanner(h, 0, size)
	defer sc.close()
	end := f.base
	for sc.next() {
		end = max(end, sc.header.End())
	}
	if sc.err != nil {
		return 0, fmt.Errorf("%s: %w", FileName(f.base, f.suffix), sc.err)
	}
	return end, nil
}
