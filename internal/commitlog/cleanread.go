package commitlog

import (
	"fmt"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// maxUnchecked is the largest batch whose length field is believed before its
// checksum was seen.
const maxUnchecked = 8 << 20

// cleanPiece is how many bytes are read at once, unless a batch is larger:
// somebody may wait until a piece is done.
const cleanPiece = 64 << 10

// cleanReader reads the batches of a segment one after the other, whole and
// checked: what a cleaning writes anew gets a new checksum, which must not
// cover up that the old one was wrong.
type cleanReader struct {
	buf []byte // A batch that is larger gets memory of its own.
	big []byte

	file       *handle
	name       string
	base, next model.Offset // Of the segment; no batch may begin below next.
	pos, end   int64        // Of the next batch; of the segment.
	at         int64        // Where in the file buf begins.
	filled     int
	// took is how many bytes were read from the file since the last pause.
	took int
}

// open goes to a position of a segment; size is the end of what is read.
func (r *cleanReader) open(h *handle, base model.Offset, pos, size int64) {
	r.file, r.name = h, FileName(base, logSuffix)
	r.base, r.next, r.pos, r.end = base, base, pos, size
	r.at, r.filled, r.big = pos, 0, nil
}

// more says whether there is another batch.
func (r *cleanReader) more() bool { return r.pos < r.end }

// read returns the next batch, valid until the next call. What is not a batch
// is a *Damage; other errors are of the disk.
func (r *cleanReader) read() (record.Batch, error) {
	size, err := r.size()
	if err != nil {
		return nil, err
	}
	var b record.Batch
	if size <= len(r.buf) {
		if b, err = r.bytes(size); err != nil {
			return nil, err
		}
	} else if b, err = r.readBig(size); err != nil {
		return nil, err
	}
	if err := r.check(b); err != nil {
		return nil, r.damage(err)
	}
	r.pos += int64(size)
	r.next = b.End()
	return b, nil
}

func (r *cleanReader) damage(err error) error { return &Damage{r.name, r.pos, err} }

// size is that of the batch at pos.
func (r *cleanReader) size() (int, error) {
	if r.end-r.pos < record.HeaderSize {
		return 0, r.damage(record.ErrShort)
	}
	head, err := r.bytes(record.HeaderSize)
	if err != nil {
		return 0, err
	}
	n, err := record.Size(head)
	if err == nil && int64(n) > r.end-r.pos {
		err = record.ErrShort
	}
	if err != nil {
		return 0, r.damage(err)
	}
	return n, nil
}

// bytes returns what stands at pos, no more than buf holds.
func (r *cleanReader) bytes(n int) ([]byte, error) {
	if r.pos+int64(n) > r.at+int64(r.filled) {
		r.filled = copy(r.buf, r.rest())
		r.at = r.pos
		to := min(int64(max(n, r.filled+cleanPiece)), int64(len(r.buf)), r.end-r.at)
		got, err := r.readAt(r.buf[r.filled:to], r.at+int64(r.filled))
		if r.filled += got; r.filled < n {
			return nil, noEOF(err)
		}
	}
	return r.rest()[:n:n], nil
}

// rest is what buf holds from pos on.
func (r *cleanReader) rest() []byte {
	return r.buf[min(r.pos-r.at, int64(r.filled)):r.filled]
}

func (r *cleanReader) readAt(b []byte, off int64) (int, error) {
	n, err := r.file.ReadAt(b, off)
	r.took += n
	return n, err
}

func (r *cleanReader) readBig(size int) ([]byte, error) {
	if size > maxUnchecked {
		// Before a damaged length costs as much memory as it says.
		c := checker{f: r.file, pos: r.pos, end: r.end, base: r.base, next: r.next, buf: make([]byte, checkBlock)}
		if _, bad, err := c.step(); bad != nil || err != nil {
			if err != nil {
				return nil, err
			}
			return nil, r.damage(bad)
		}
	}
	if cap(r.big) < size {
		r.big = make([]byte, size)
	}
	n := copy(r.big[:size], r.rest())
	got, err := r.readAt(r.big[n:size], r.pos+int64(n))
	if n+got < size {
		return nil, noEOF(err)
	}
	return r.big[:size:size], nil
}

// check is what recovery checks.
func (r *cleanReader) check(b record.Batch) error {
	if b.BaseOffset() < r.next || b.LastOffsetDelta() < 0 || b.LastOffset() < b.BaseOffset() || b.LastOffset()-r.base > maxRelative {
		return fmt.Errorf("%w: offsets %d+%d after %d", errShape, b.BaseOffset(), b.LastOffsetDelta(), r.next)
	}
	if crc := b.ComputeCRC(); crc != b.CRC() {
		return fmt.Errorf("%w: checksum %08x, stored %08x", record.ErrCorrupt, crc, b.CRC())
	}
	return nil
}
