package commitlog

import (
	"io"
	"sync"

	"github.com/barnabas-log/barnabas/record"
)

// scanBlock is how much a scanner reads for the sake of headers: about the
// distance of two index entries.
const scanBlock = 8192

var scanBuffers = sync.Pool{New: func() any { b := make([]byte, scanBlock); return &b }}

// scanner walks the batch headers of a file in [pos, end) without reading the
// records of batches that are larger than a block.
type scanner struct {
	r        io.ReaderAt
	pos, end int64 // Of the batch in header; end of the part to be walked.
	header   record.Batch
	size     int64 // Of the batch in header.
	err      error

	buf    *[]byte
	at     int64 // Where in the file buf begins.
	filled int
}

func newScanner(r io.ReaderAt, pos, end int64) scanner {
	return scanner{r: r, pos: pos, end: end, buf: scanBuffers.Get().(*[]byte), at: -1}
}

func (s *scanner) close() {
	scanBuffers.Put(s.buf)
	s.buf = nil
}

// next goes to the next batch. It returns false at the end and on an error;
// bytes that are not a whole batch are an error.
func (s *scanner) next() bool {
	s.pos += s.size
	s.size = 0
	if s.err != nil || s.pos >= s.end {
		return false
	}
	if s.end-s.pos < record.HeaderSize {
		s.err = record.ErrShort
		return false
	}
	if s.at < 0 || s.pos < s.at || s.pos+record.HeaderSize > s.at+int64(s.filled) {
		if s.err = s.fill(); s.err != nil {
			return false
		}
	}
	s.header = record.Batch((*s.buf)[s.pos-s.at:][:record.HeaderSize])
	n, err := record.Size(s.header)
	if err == nil && int64(n) > s.end-s.pos {
		err = record.ErrShort
	}
	if err != nil {
		s.err = err
		return false
	}
	s.size = int64(n)
	return true
}

func (s *scanner) fill() error {
	n, err := s.r.ReadAt((*s.buf)[:min(scanBlock, s.end-s.pos)], s.pos)
	s.at, s.filled = s.pos, n
	if n < record.HeaderSize {
		return noEOF(err)
	}
	return nil
}
