package commitlog

import (
	"context"
	"errors"
	"io/fs"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// Reindexed is what Reindex wrote.
type Reindexed struct {
	Segments, Batches, Bytes int64
	// Entries of the indexes by offset and by time, and of aborted transactions.
	Offsets, Times, Aborted int64
}

// Reindex makes all indexes anew from the batches, each in the place of the old
// one, durably. aborted are all aborted transactions of the log, in the order of
// their markers. A batch that is not one is a *Damage; what came before it has
// been indexed. progress is told of bytes that were read.
//
// A mark that was taken before counts the entries of an index that is gone: the
// caller gives it up first.
func (l *Log) Reindex(ctx context.Context, aborted []AbortedTxn, progress func(bytes int)) (done Reindexed, err error) {
	l.removal.Lock()
	defer l.removal.Unlock()
	l.append.Lock()
	defer l.append.Unlock()
	if err := l.Err(); err != nil {
		return done, err
	}
	r := &cleanReader{buf: make([]byte, checkBlock)}
	for i, s := range l.mu.segments {
		end := model.Offset(1<<63 - 1)
		if i+1 < len(l.mu.segments) {
			end = l.mu.segments[i+1].base
		}
		n := 0
		for n < len(aborted) && aborted[n].Last < end {
			n++
		}
		if err := l.reindex(ctx, r, s, aborted[:n:n], progress, &done); err != nil {
			return done, l.wrap("reindex", err)
		}
		aborted = aborted[n:]
	}
	return done, nil
}

func (l *Log) reindex(ctx context.Context, r *cleanReader, s *segment, aborted []AbortedTxn, progress func(int), done *Reindexed) error {
	fresh := l.newSegment(s.base)
	fresh.setEmpty()
	h, err := l.openFile(s)
	if err != nil {
		return err
	}
	defer h.release()
	for r.open(h, s.base, 0, s.size); r.more(); {
		pos := r.pos
		b, err := r.read()
		if err != nil {
			return err
		}
		fresh.note(b, pos, l.opts.IndexInterval)
		done.Batches++
		progress(len(b))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	fresh.noteTime()
	done.Segments++
	done.Bytes += s.size
	done.Offsets += int64(fresh.offsets.count())
	done.Times += int64(fresh.times.count())
	done.Aborted += int64(len(aborted))
	return l.putIndexes(s, fresh, aborted)
}

// putIndexes replaces the index files of a segment.
func (l *Log) putIndexes(s, fresh *segment, aborted []AbortedTxn) error {
	var txns []byte
	for _, t := range aborted {
		txns = appendAborted(txns, t)
	}
	for _, f := range []struct {
		suffix string
		b      []byte
	}{{indexSuffix, fresh.offsets.tail}, {timeSuffix, fresh.times.tail}, {txnSuffix, txns}} {
		path := l.path(s.base, f.suffix)
		if f.suffix == txnSuffix && len(f.b) == 0 {
			if err := l.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if err := vfs.WriteFile(l.fs, path, f.b); err != nil {
			return err
		}
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	fresh.settle()
	l.mu.Lock()
	defer l.mu.Unlock()
	s.offsets, s.times = fresh.offsets, fresh.times
	s.offsets.untrimmed, s.times.untrimmed = false, false
	s.offsets.dirty, s.times.dirty = false, false
	s.sinceIndex, s.timesKnown = fresh.sinceIndex, true
	s.maxTime, s.maxTimeOffset = fresh.maxTime, fresh.maxTimeOffset
	s.firstKnown, s.firstTime = fresh.firstKnown, fresh.firstTime
	s.aborted, s.hasTxns, s.txnsKnown, s.txnsDirty = aborted, len(aborted) > 0, true, false
	return nil
}
