package commitlog

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// cleanAhead is how many bytes of a segment being written the disk gets at a
// time, and at most two times as much waits for it: a producer's sync waits for
// all that the disk was given before, and for what the file system gives it then.
const cleanAhead = 1 << 20

// errGrown says that a cleaned segment would not fit the positions of its
// index, which have 32 bits. Only another compression can make one grow that was
// nearly full.
var errGrown = errors.New("commitlog: segment grows too large when it is cleaned")

// cleanWriter writes the segment that replaces others, under names that end
// with .cleaned. As long as a lone segment stays as it is nothing is written.
type cleanWriter struct {
	p *pass
	// s is what the segment will be; both its indexes stay in memory.
	s    *segment
	base model.Offset
	// source is the lone segment that is to be replaced, until something of it
	// is different.
	source *handle
	file   vfs.File
	// buf is what comes behind the written bytes of the file. The disk was given
	// those before begun, and has those before out.
	buf                 []byte
	written, begun, out int64
	aborted             []AbortedTxn
	// left is how many bytes of the originals were not read yet.
	left int64
}

func (p *pass) newWriter(base model.Offset) *cleanWriter {
	w := &cleanWriter{p: p, base: base, s: p.l.newSegment(base), buf: p.out[:0]}
	w.s.setEmpty()
	w.s.offsets.untrimmed, w.s.times.untrimmed = false, false
	w.s.offsets.dirty, w.s.times.dirty = false, false
	return w
}

func (w *cleanWriter) path(suffix string) string {
	return w.p.l.path(w.base, suffix) + cleanedSuffix
}

// take adds what became of the batch that stood at pos: none, one as it was
// (same), or another.
func (w *cleanWriter) take(ctx context.Context, b record.Batch, pos int64, same bool) error {
	if len(b) == 0 {
		return nil
	}
	if w.file == nil && (w.source == nil || !same || pos != w.s.size) {
		if err := w.create(ctx); err != nil {
			return err
		}
	}
	if w.s.size+int64(len(b)) > w.p.most || b.LastOffset()-w.base > maxRelative {
		return errGrown
	}
	interval := w.p.indexInterval
	if w.s.offsets.bytes()+offsetWidth > w.p.maxIndex {
		interval = maxRelative // The index is full: readers look a little further.
	}
	w.s.note(b, w.s.size, interval)
	if w.file == nil {
		return nil
	}
	if len(w.buf)+len(b) > cap(w.buf) {
		if err := w.flush(ctx); err != nil {
			return err
		}
	}
	if len(b) > cap(w.buf) {
		return w.write(ctx, b)
	}
	w.buf = append(w.buf, b...)
	return nil
}

// create makes the file, with what was left as it was so far.
func (w *cleanWriter) create(ctx context.Context) error {
	f, err := w.p.l.fs.Create(w.path(logSuffix))
	if err != nil {
		return err
	}
	w.file = f
	if w.source == nil {
		return nil
	}
	buf := make([]byte, len(w.p.reader.buf))
	for w.written < w.s.size {
		n, err := w.source.ReadAt(buf[:min(int64(len(buf)), w.s.size-w.written)], w.written)
		if n == 0 {
			return noEOF(err)
		}
		if err := w.write(ctx, buf[:n]); err != nil {
			return err
		}
	}
	return nil
}

func (w *cleanWriter) flush(ctx context.Context) error {
	if len(w.buf) == 0 {
		return nil
	}
	err := w.write(ctx, w.buf)
	w.buf = w.buf[:0]
	return err
}

func (w *cleanWriter) write(ctx context.Context, b []byte) error {
	if _, err := w.file.WriteAt(b, w.written); err != nil {
		return err
	}
	w.written += int64(len(b))
	w.p.done.BytesWritten += int64(len(b))
	if w.written-w.begun >= cleanAhead {
		if err := w.writeOut(); err != nil {
			return err
		}
	}
	return w.p.pause(ctx, len(b))
}

// writeOut gives the disk what was written, and waits for what it was given the
// last time.
func (w *cleanWriter) writeOut() error {
	if err := w.file.WriteOut(w.begun, w.written-w.begun, false); err != nil {
		return err
	}
	if w.begun > w.out {
		if err := w.file.WriteOut(w.out, w.begun-w.out, true); err != nil {
			return err
		}
	}
	w.out, w.begun = w.begun, w.written
	return nil
}

// finish makes the segment durable. It reports false if there is nothing to be
// replaced.
func (w *cleanWriter) finish(ctx context.Context, old []*segment) (bool, error) {
	if w.file == nil {
		if w.source != nil && w.s.size == old[0].size && len(w.aborted) == len(w.p.sourceAborted) {
			return false, nil
		}
		if err := w.create(ctx); err != nil {
			return false, err
		}
	}
	if err := w.flush(ctx); err != nil {
		return false, err
	}
	w.s.noteTime() // As of every sealed segment.
	if err := w.file.Sync(); err != nil {
		return false, err
	}
	if err := w.writeBeside(); err != nil {
		return false, err
	}
	info, err := w.p.l.fs.Stat(w.p.l.path(old[len(old)-1].base, logSuffix))
	if err != nil {
		return false, err
	}
	// Retention asks for it where records have no time.
	w.s.changed = info.ModTime
	if err := w.p.l.fs.SetModTime(w.path(logSuffix), info.ModTime); err != nil {
		return false, err
	}
	// No log without what belongs to it, whatever a crash makes of the renames.
	return true, w.p.l.fs.SyncDir(w.p.l.dir)
}

func (w *cleanWriter) writeBeside() error {
	beside := map[string][]byte{indexSuffix: w.s.offsets.tail, timeSuffix: w.s.times.tail}
	if len(w.aborted) > 0 {
		var b bytes.Buffer
		for _, t := range w.aborted {
			b.Write(appendAborted(b.AvailableBuffer(), t))
		}
		beside[txnSuffix] = b.Bytes()
	}
	for _, suffix := range besideSuffixes {
		b, ok := beside[suffix]
		if !ok {
			continue
		}
		if err := writeSynced(w.p.l.fs, w.path(suffix), b); err != nil {
			return err
		}
	}
	return nil
}

func writeSynced(fsys vfs.FS, path string, b []byte) error {
	f, err := fsys.Create(path)
	if err != nil {
		return err
	}
	if len(b) > 0 {
		_, err = f.WriteAt(b, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// discard removes what was written, when it is of no use.
func (w *cleanWriter) discard() error {
	if w.file == nil {
		return nil
	}
	errs := []error{w.file.Close()}
	for _, suffix := range segmentSuffixes {
		if err := w.p.l.fs.Remove(w.path(suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// sealed is the segment as readers will see it, its indexes in memory until
// their files have their names. The file is the segment's from now on.
func (w *cleanWriter) sealed() *segment {
	s := w.s
	s.synced = s.size
	s.file, s.used, s.swapping = newHandle(w.file), true, true
	w.file = nil
	s.hasTxns, s.txnsKnown, s.aborted = len(w.aborted) > 0, true, slices.Clip(w.aborted)
	return s
}

// settle says that the files have their names: the memory can go.
func (s *segment) settle() {
	s.swapping = false
	if n := len(s.times.tail); n > 0 {
		s.times.floor, _ = entryTime(s.times.tail[n-timeWidth:])
	}
	for _, x := range [...]*sparse{&s.offsets, &s.times} {
		x.inFile, x.tail = x.count(), nil
	}
}
