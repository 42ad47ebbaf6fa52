package vfs

import (
	"io"
	"io/fs"
	"syscall"
)

type memFile struct {
	m     *Mem
	n     *node
	name  string
	write bool
	// closed is guarded by m.mu.
	closed bool
}

func (f *memFile) checkLocked(op string) error {
	if f.closed {
		return pathError(op, f.name, fs.ErrClosed)
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked("read"); err != nil {
		return 0, err
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked("write"); err != nil {
		return 0, err
	}
	if !f.write {
		return 0, pathError("write", f.name, syscall.EBADF)
	}
	n := len(p)
	if grow := off + int64(n) - int64(len(f.n.data)); grow > 0 && f.m.mu.capacity > 0 {
		if short := grow - (f.m.mu.capacity - f.m.mu.used); short > 0 {
			n = max(0, n-int(short))
		}
	}
	if n > 0 {
		f.m.resizeLocked(f.n, max(len(f.n.data), int(off)+n))
		copy(f.n.data[off:], p[:n])
		f.n.touch(int(off), int(off)+n)
	}
	if n < len(p) {
		return n, pathError("write", f.name, syscall.ENOSPC)
	}
	return n, nil
}

// touch marks the pages of [from, to) as not synced.
func (n *node) touch(from, to int) {
	for p := from / pageSize; p*pageSize < to; p++ {
		n.dirty[p] = struct{}{}
	}
}

// resizeLocked changes the length of a file. What is cut reads as zeros should the
// file grow again.
func (m *Mem) resizeLocked(n *node, size int) {
	old := len(n.data)
	m.mu.used += int64(size - old)
	n.modTime = m.mu.now
	if size <= old {
		clear(n.data[size:])
		n.data = n.data[:size]
	} else {
		n.data = append(n.data, make([]byte, size-old)...)
	}
	n.touch(min(size, old), max(size, old))
}

func (f *memFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked("truncate"); err != nil {
		return err
	}
	f.m.resizeLocked(f.n, int(size))
	return nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked("sync"); err != nil {
		return err
	}
	f.n.syncData()
	return nil
}

func (n *node) syncData() {
	for len(n.synced) < len(n.data) {
		n.synced = append(n.synced, make([]byte, len(n.data)-len(n.synced))...)
	}
	n.synced = n.synced[:len(n.data)]
	for p := range n.dirty {
		if at := p * pageSize; at < len(n.data) {
			copy(n.synced[at:], n.data[at:min(at+pageSize, len(n.data))])
		}
	}
	clear(n.dirty)
}

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return int64(len(f.n.data)), f.checkLocked("size")
}

func (f *memFile) Allocate(n int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	grow := n - int64(len(f.n.data))
	if grow <= 0 {
		return f.checkLocked("allocate")
	}
	if f.m.mu.capacity > 0 && grow > f.m.mu.capacity-f.m.mu.used {
		return pathError("allocate", f.name, syscall.ENOSPC)
	}
	f.m.resizeLocked(f.n, int(n))
	return nil
}

// WriteOut does nothing: a crash may lose it all the same.
func (f *memFile) WriteOut(int64, int64, bool) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.checkLocked("write out")
}

// Reserve reserves nothing, but fails where there would be no room.
func (f *memFile) Reserve(n int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if more := n - int64(len(f.n.data)); f.m.mu.capacity > 0 && more > f.m.mu.capacity-f.m.mu.used {
		return pathError("reserve", f.name, syscall.ENOSPC)
	}
	return f.checkLocked("reserve")
}

func (f *memFile) Fd() (uintptr, bool) { return 0, false }

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	err := f.checkLocked("close")
	f.closed = true
	return err
}
