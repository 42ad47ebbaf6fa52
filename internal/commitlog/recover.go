package commitlog

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// checkBlock is how much recovery reads at once.
const checkBlock = 1 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crcFrom is where the part of a batch begins that its checksum covers.
const crcFrom = 21

// checker walks the batches of a file as a scanner does, and reads and checks
// all of every batch, in memory that does not depend on what a length field says.
type checker struct {
	f        vfs.File
	pos, end int64
	next     model.Offset // No batch may begin below.
	base     model.Offset // Of the segment.
	header   record.Batch
	buf      []byte
	at       int64
	filled   int
}

// step checks the batch at pos and moves behind it. bad says why what is there
// is not a batch; err is of the disk.
func (c *checker) step() (size int64, bad, err error) {
	if c.end-c.pos < record.HeaderSize {
		return 0, record.ErrShort, nil
	}
	head, err := c.bytes(c.pos, record.HeaderSize)
	if err != nil {
		return 0, nil, err
	}
	c.header = append(c.header[:0], head...)
	n, bad := record.Size(c.header)
	if bad != nil {
		return 0, bad, nil
	}
	size = int64(n)
	if size > c.end-c.pos {
		return 0, record.ErrShort, nil
	}
	if bad := c.checkPlace(); bad != nil {
		return 0, bad, nil
	}
	crc, err := c.crc(c.pos+crcFrom, c.pos+size)
	if err != nil {
		return 0, nil, err
	}
	if crc != c.header.CRC() {
		return 0, fmt.Errorf("%w: checksum %08x, stored %08x", record.ErrCorrupt, crc, c.header.CRC()), nil
	}
	c.pos += size
	c.next = c.header.End()
	return size, nil, nil
}

func (c *checker) checkPlace() error {
	b := c.header
	if b.BaseOffset() < c.next || b.LastOffsetDelta() < 0 || b.LastOffset() < b.BaseOffset() ||
		b.LastOffset()-c.base > maxRelative {
		return fmt.Errorf("%w: offsets %d+%d after %d", errShape, b.BaseOffset(), b.LastOffsetDelta(), c.next)
	}
	return nil
}

// bytes returns [pos, pos+n) of the file, n no larger than a block.
func (c *checker) bytes(pos int64, n int) ([]byte, error) {
	if pos < c.at || pos+int64(n) > c.at+int64(c.filled) {
		want := min(int64(len(c.buf)), c.end-pos)
		got, err := c.f.ReadAt(c.buf[:want], pos)
		if got < n {
			return nil, noEOF(err)
		}
		c.at, c.filled = pos, got
	}
	return c.buf[pos-c.at:][:n], nil
}

func (c *checker) crc(from, to int64) (uint32, error) {
	crc := uint32(0)
	for from < to {
		n := min(to-from, int64(len(c.buf)))
		if have := c.at + int64(c.filled) - from; from >= c.at && have > 0 {
			n = min(n, have)
		}
		b, err := c.bytes(from, int(n))
		if err != nil {
			return 0, err
		}
		crc = crc32.Update(crc, castagnoli, b)
		from += n
	}
	return crc, nil
}

// recoverSegment checks a segment from a position on, which the mark vouches
// for, cuts what is not whole batches, durably, and makes the indexes of the
// rest anew. It returns where the records end.
func (l *Log) recoverSegment(s *segment, from int64) (end model.Offset, cut bool, err error) {
	if s.size == 0 {
		s.setEmpty()
		return s.base, false, l.recoverTxns(s, s.base)
	}
	h, err := l.openFile(s)
	if err != nil {
		return 0, false, err
	}
	defer h.release()
	size := s.size
	c := &checker{f: h, pos: from, end: size, base: s.base, next: s.base}
	c.buf = make([]byte, min(checkBlock, max(size-from, record.HeaderSize)))
	s.setEmpty()
	if from > 0 {
		l.adoptMark(s)
		s.size, s.synced = from, from
		c.next = l.mark.Offset
		if err := s.times.loadFloor(l.fs); err != nil {
			return 0, false, err
		}
	}
	for c.pos < size {
		pos := c.pos
		n, bad, err := c.step()
		if err != nil {
			return 0, false, err
		}
		if bad != nil {
			break
		}
		s.noteHeader(c.header, pos, n, l.opts.IndexInterval)
		l.foundEpoch(c.header.LeaderEpoch(), c.header.BaseOffset())
	}
	if c.pos < size {
		cut = true
		if err := cutFile(h, c.pos); err != nil {
			return 0, false, err
		}
	}
	if err := l.recoverTxns(s, min(c.next, l.vouched)); err != nil {
		return 0, false, err
	}
	s.noteTime() // As Kafka does: for a sealed segment it is due, for the active one harmless.
	err = l.flushIndexes(s)
	s.closeLocked() // Nobody else knows the log yet.
	return c.next, cut, err
}

// foundEpoch collects the epochs of recovered batches until the end is known.
func (l *Log) foundEpoch(e model.Epoch, start model.Offset) {
	if n := len(l.found); e >= 0 && (n == 0 || e > l.found[n-1].Epoch) {
		l.found = append(l.found, EpochStart{e, start})
	}
}

func cutFile(h *handle, size int64) error {
	if err := h.Truncate(size); err != nil {
		return err
	}
	return h.Sync()
}

// rebuildIndexes makes both indexes of a trusted segment from its headers.
func (l *Log) rebuildIndexes(s *segment) error {
	h, err := l.openFile(s)
	if err != nil {
		return err
	}
	defer h.release()
	size := s.size
	sc := newScanner(h, 0, size)
	defer sc.close()
	s.setEmpty()
	for sc.next() {
		s.noteHeader(sc.header, sc.pos, sc.size, l.opts.IndexInterval)
	}
	if sc.err != nil {
		return sc.err
	}
	s.synced = size
	s.noteTime()
	l.event(Event{Kind: EventIndexRebuilt, Segment: s.base})
	return l.flushIndexes(s)
}

// removeFiles removes a segment with all that belongs to it.
func (l *Log) removeFiles(base model.Offset) error {
	for _, suffix := range segmentSuffixes {
		err := l.fs.Remove(l.path(base, suffix))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
