//go:build unix

package vfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// OS is the file system of the operating system. The zero value is ready.
type OS struct{}

// Open implements FS.
func (OS) Open(name string) (File, error) { return open(name, os.O_RDONLY) }

// OpenWrite implements FS.
func (OS) OpenWrite(name string) (File, error) { return open(name, os.O_RDWR) }

// Create implements FS.
func (OS) Create(name string) (File, error) {
	return open(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

func open(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, 0o644)
	if err != nil {
		return nil, err
	}
	return osFile{f, f.Fd()}, nil
}

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// RemoveAll implements FS.
func (OS) RemoveAll(name string) error { return os.RemoveAll(name) }

// MkdirAll implements FS.
func (OS) MkdirAll(name string) error { return os.MkdirAll(name, 0o755) }

// ReadDir implements FS.
func (OS) ReadDir(name string) ([]Info, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	infos := make([]Info, len(entries))
	for i, e := range entries {
		infos[i] = Info{Name: e.Name(), Dir: e.IsDir()}
	}
	return infos, nil
}

// Stat implements FS.
func (OS) Stat(name string) (Info, error) {
	var st unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Stat(name, &st) }); err != nil {
		return Info{}, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	info := Info{Name: base(name), Dir: st.Mode&unix.S_IFMT == unix.S_IFDIR}
	if !info.Dir {
		info.Size = st.Size
	}
	info.ModTime = modMillis(&st)
	return info, nil
}

// SetModTime implements FS.
func (OS) SetModTime(name string, millis int64) error {
	return os.Chtimes(name, time.Time{}, time.UnixMilli(millis)) // The zero time leaves that of access.
}

// SyncDir implements FS.
func (OS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Lock implements FS. The lock is of the kind that Java's FileChannel.lock
// takes, so it excludes a Kafka broker; flock would not.
func (OS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	err = ignoringEINTR(func() error { return unix.FcntlFlock(f.Fd(), setLock, &lk) })
	if err == nil {
		return osLock{f}, nil
	}
	f.Close()
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, fmt.Errorf("%w: %s", ErrLocked, name)
	}
	return nil, &os.PathError{Op: "lock", Path: name, Err: err}
}

// osLock is the open lock file.
type osLock struct{ *os.File }

// DiskUsage implements FS.
func (OS) DiskUsage(name string) (Usage, error) {
	var st unix.Statfs_t
	if err := ignoringEINTR(func() error { return unix.Statfs(name, &st) }); err != nil {
		return Usage{}, &os.PathError{Op: "statfs", Path: name, Err: err}
	}
	block := int64(st.Bsize)
	return Usage{
		Free: int64(st.Bavail) * block, Used: (int64(st.Blocks) - int64(st.Bfree)) * block, Total: int64(st.Blocks) * block,
	}, nil
}

func inode(name string) (uint64, error) {
	var st unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Stat(name, &st) }); err != nil {
		return 0, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	return st.Ino, nil
}

// osFile keeps the descriptor beside the file because os.File.Fd costs a
// closure per call on the read path.
type osFile struct {
	*os.File
	fd uintptr
}

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f osFile) Fd() (uintptr, bool) { return f.fd, true }

func (f osFile) Sync() error {
	if err := ignoringEINTR(func() error { return fdatasync(f.File) }); err != nil {
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}

func (f osFile) WriteOut(off, n int64, wait bool) error {
	err := ignoringEINTR(func() error { return writeOut(f.File, off, n, wait) })
	if err == nil || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return &os.PathError{Op: "sync_file_range", Path: f.Name(), Err: err}
}

func (f osFile) Allocate(n int64) error {
	if err := ignoringEINTR(func() error { return allocate(f.File, n) }); err != nil {
		return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
	}
	return nil
}

func (f osFile) Reserve(n int64) error {
	err := ignoringEINTR(func() error { return reserve(f.File, n) })
	if err == nil || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
