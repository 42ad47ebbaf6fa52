package vfs

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
)

// ErrLocked is returned by FS.Lock when somebody else holds the lock.
var ErrLocked = errors.New("vfs: locked by another process")

// FS is a file system. Errors are those of package io/fs ([fs.ErrNotExist],
// [fs.ErrExist]) and of syscall ([syscall.ENOSPC]), wrapped. All methods may be
// called concurrently.
type FS interface {
	// Open opens an existing file for reading.
	Open(name string) (File, error)
	// OpenWrite opens an existing file for reading and writing.
	OpenWrite(name string) (File, error)
	// Create makes a file, or empties an existing one, for reading and writing.
	Create(name string) (File, error)
	// Rename moves a file or directory, replacing a file that is in the way.
	Rename(from, to string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// RemoveAll removes a tree; one that is not there is no error.
	RemoveAll(name string) error
	// MkdirAll makes a directory and its parents; existing ones are no error.
	MkdirAll(name string) error
	// ReadDir lists a directory by name. Sizes are not filled in.
	ReadDir(name string) ([]Info, error)
	// Stat describes one file or directory.
	Stat(name string) (Info, error)
	// SetModTime sets when a file was last changed, in milliseconds since 1970.
	SetModTime(name string, millis int64) error
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	// SyncFS makes everything on the file system that holds name durable. One
	// call costs less than many File.Sync; what it does with write errors that
	// another descriptor has not yet seen is up to the system.
	SyncFS(name string) error
	// Lock takes an exclusive advisory lock on a file, which is made if needed,
	// and excludes other processes, a Kafka broker among them, until closed. It
	// does not wait: ErrLocked. What it returns may have a method SyncFS of its
	// own, which then is the better one: it misses no write error.
	Lock(name string) (io.Closer, error)
	// DiskUsage tells how full the file system is that holds name.
	DiskUsage(name string) (Usage, error)
	// Birth is a number that a file or directory keeps as long as it lives, under
	// whatever name, and that its copies do not have: made of its inode and,
	// where the system knows it, the time of its birth.
	Birth(name string) (uint64, error)
}

// File is an open file. There is no position: reads and writes say where.
// Methods may be called concurrently, Close only last.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Truncate cuts the file or extends it by zeros.
	Truncate(size int64) error
	// Sync makes bytes and size durable (fdatasync).
	Sync() error
	// WriteOut asks the system to write n bytes from off to the disk now, and with
	// wait returns when that is done. It makes nothing durable, as Sync does, but
	// leaves less for others to wait for. Where the system cannot do that, nothing
	// happens.
	WriteOut(off, n int64, wait bool) error
	// Size is the length in bytes.
	Size() (int64, error)
	// Allocate reserves disk space for the first n bytes and makes the file at
	// least that long.
	Allocate(n int64) error
	// Reserve asks for disk space for the first n bytes and leaves the size as it
	// is; Truncate gives back what lies behind it. Where the system cannot do
	// that, nothing happens.
	Reserve(n int64) error
	// Fd is the descriptor for sendfile, valid until Close; false if there is
	// none.
	Fd() (uintptr, bool)
}

// Usage tells how full a file system is, in bytes.
type Usage struct {
	// Free is what is left for unprivileged users, Used what is taken; what is
	// kept for the superuser is neither.
	Free, Used int64
	// Total is the size of the file system.
	Total int64
}

// Above is by how many bytes the file system is fuller than so many percent, and
// negative if it is not. It does not overflow, however large that is.
func (u Usage) Above(percent int64) int64 {
	total := u.Used + u.Free
	return u.Used - (total/100*percent + total%100*percent/100)
}

// Percent is how much of what there is for unprivileged users is taken, as df
// shows it, from 0 to 100.
func (u Usage) Percent() float64 {
	if u.Used+u.Free <= 0 {
		return 100
	}
	return 100 * float64(u.Used) / float64(u.Used+u.Free)
}

// Info describes a file or directory.
type Info struct {
	// Name is the last element of the path.
	Name string
	// Size is in bytes; zero for directories and in listings.
	Size int64
	// ModTime is in milliseconds since 1970; zero in listings.
	ModTime int64
	// Dir is set for directories.
	Dir bool
}

// ReadFile returns the content of a file of at most limit bytes; a longer one
// is an error, so that a damaged file cannot cost memory without bound.
func ReadFile(fs FS, name string, limit int64) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, errors.New("vfs: " + name + ": longer than expected")
	}
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}

// WriteFile replaces a file by data so that after a crash the old or the new
// content is there, and the new one once WriteFile has returned: temporary
// file, sync, rename, sync of the directory. The temporary name is the name
// with ".tmp" behind it, as Kafka's.
func WriteFile(fs FS, name string, data []byte) error {
	tmp := name + ".tmp"
	if err := writeSynced(fs, tmp, data); err != nil {
		fs.Remove(tmp) // Best effort: the next WriteFile replaces it anyway.
		return err
	}
	if err := fs.Rename(tmp, name); err != nil {
		return err
	}
	return fs.SyncDir(filepath.Dir(name))
}

func writeSynced(fs FS, name string, data []byte) error {
	f, err := fs.Create(name)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// base is the last element of a path.
func base(name string) string {
	return name[strings.LastIndexByte(name, '/')+1:]
}
