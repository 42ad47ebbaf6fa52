package zmtp

import (
	"net"
	"slices"
	"time"
)

// A connection's read buffer starts small, for the many that are quiet, and grows
// when a read fills it.
const (
	minBuffer = 4 << 10
	maxBuffer = 64 << 10
)

// reader cuts frames out of a connection.
type reader struct {
	conn   net.Conn
	buf    []byte
	r, w   int           // What is in buf and not cut yet.
	limit  int           // Of a frame's size.
	idle   time.Duration // How long a read may take; 0: for ever.
	before func()        // Called before a read, which may take long.
}

// next returns the next frame.
func (r *reader) next() (frame, error) {
	for {
		flags, size, n, err := parseHeader(r.buf[r.r:r.w], r.limit)
		switch {
		case err != nil:
			return frame{}, err
		case n > 0 && r.w-r.r >= n+size:
			start := r.r + n
			r.r = start + size
			return frame{flags: flags, body: r.buf[start:r.r:r.r]}, nil
		case n > 0 && size > ownFrame:
			r.r += n
			body, err := r.large(size)
			return frame{flags: flags, body: body, owned: true}, err
		}
		if err := r.fill(); err != nil {
			return frame{}, err
		}
	}
}

// full reads n bytes that are no frame. They last until the next call.
func (r *reader) full(n int) ([]byte, error) {
	for r.w-r.r < n {
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
	r.r += n
	return r.buf[r.r-n : r.r], nil
}

// fill reads once, after making room.
func (r *reader) fill() error {
	switch {
	case r.buf == nil:
		r.buf = make([]byte, minBuffer)
	case r.w == len(r.buf) && len(r.buf) < maxBuffer:
		grown := make([]byte, 2*len(r.buf))
		r.w = copy(grown, r.buf[r.r:r.w])
		r.buf, r.r = grown, 0
	default:
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	n, err := r.read(r.buf[r.w:])
	r.w += n
	return err
}

// large reads a body of size bytes to memory of its own, which grows with what
// has come.
func (r *reader) large(size int) ([]byte, error) {
	body := append(make([]byte, 0, min(size, maxBuffer)), r.buf[r.r:r.w]...)
	r.r = r.w
	for len(body) < size {
		if len(body) == cap(body) {
			body = slices.Grow(body, min(len(body), size-len(body)))
		}
		n, err := r.read(body[len(body):min(cap(body), size)])
		body = body[:len(body)+n]
		if err != nil {
			return nil, err
		}
	}
	return body[:size:size], nil
}

// read reads once. It returns an error only if nothing was read.
func (r *reader) read(p []byte) (int, error) {
	if r.before != nil {
		r.before()
	}
	if r.idle > 0 {
		if err := r.conn.SetReadDeadline(time.Now().Add(r.idle)); err != nil {
			return 0, err
		}
	}
	n, err := r.conn.Read(p)
	if n > 0 {
		return n, nil // An error will come again.
	}
	return 0, err
}
