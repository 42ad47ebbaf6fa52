package commitlog

import (
	"fmt"
	"io"
	"sync"

	"github.com/barnabas-log/barnabas/model"
)

// View is a piece of a segment: whole batches, read when they are asked for. It
// holds a reference on the file, so retention does not disturb it; truncation
// does, and then reading it fails. Views are values: close each once.
type View struct {
	file *handle
	pos  int64
	size int
	from model.Offset
	end  model.Offset
	past bool // Internal: nothing at or after from in this segment.
}

// Size is the length in bytes.
func (v View) Size() int { return v.size }

// From is the offset that was asked for; the first batch may begin before it.
func (v View) From() model.Offset { return v.from }

// End is where reading goes on: one past the last offset of the last batch,
// holes after it included; From if the view is empty.
func (v View) End() model.Offset { return v.end }

// ReadAt implements io.ReaderAt.
func (v View) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(v.size) {
		return 0, io.EOF
	}
	short := false
	if rest := int64(v.size) - off; int64(len(p)) > rest {
		p, short = p[:rest], true
	}
	n, err := v.file.ReadAt(p, v.pos+off)
	if n < len(p) {
		return n, fmt.Errorf("commitlog: view of %d bytes at %d: %w", v.size, v.pos, noEOF(err))
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}

// Bytes reads the view into buf, which is grown if it is too small.
func (v View) Bytes(buf []byte) ([]byte, error) {
	if cap(buf) < v.size {
		buf = make([]byte, v.size)
	}
	buf = buf[:v.size]
	if v.size == 0 {
		return buf, nil
	}
	_, err := v.ReadAt(buf, 0)
	return buf, err
}

// Close gives the file back.
func (v View) Close() {
	if v.file != nil {
		v.file.release()
	}
}

// copyBlock is what WriteTo copies at once where it cannot send the file.
const copyBlock = 256 << 10

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copyBlock); return &b }}

// WriteTo writes the view to a connection: by sendfile where w is a TCP or Unix
// socket and the view is large enough, else through a pooled buffer. After an
// error the receiver has a part of the view and the connection is of no more
// use.
func (v View) WriteTo(w io.Writer) (int64, error) {
	if v.size == 0 {
		return 0, nil
	}
	if n, done, err := v.sendTo(w); done {
		return n, err
	}
	return v.copyTo(w)
}

func (v View) copyTo(w io.Writer) (int64, error) {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	var sent int64
	for sent < int64(v.size) {
		n, err := v.ReadAt(*buf, sent)
		if err != nil && err != io.EOF {
			return sent, err
		}
		m, err := w.Write((*buf)[:n])
		sent += int64(m)
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}
