package vfs

import (
	"errors"
	"io"
	"path/filepath"
	"sync/atomic"
)

// OpKind is what an operation does.
type OpKind string

// The operations that a hook sees.
const (
	OpOpen       OpKind = "open"
	OpCreate     OpKind = "create"
	OpRename     OpKind = "rename" // Path is the new name.
	OpSetModTime OpKind = "setmodtime"
	OpRemove     OpKind = "remove"
	OpMkdir      OpKind = "mkdir"
	OpReadDir    OpKind = "readdir"
	OpStat       OpKind = "stat"
	OpSyncDir    OpKind = "syncdir"
	OpSyncFS     OpKind = "syncfs"
	OpRead       OpKind = "read"
	OpWrite      OpKind = "write"
	OpTruncate   OpKind = "truncate"
	OpSync       OpKind = "sync"
	OpWriteOut   OpKind = "writeout"
	OpAllocate   OpKind = "allocate"
	OpReserve    OpKind = "reserve"
)

// Op is one operation about to happen.
type Op struct {
	Kind OpKind
	Path string
}

// Durable reports whether the operation decides what a crash leaves: the
// moments at which a crash test must have crashed.
func (o Op) Durable() bool {
	switch o.Kind {
	case OpSync, OpSyncDir, OpSyncFS, OpRename, OpRemove, OpTruncate:
		return true
	}
	return false
}

// Matches reports whether the operation is of a kind and on a file whose last
// name matches a pattern of path/filepath. An empty kind or pattern matches
// all.
func (o Op) Matches(kind OpKind, pattern string) bool {
	if kind != "" && kind != o.Kind {
		return false
	}
	ok, _ := filepath.Match(pattern, base(o.Path))
	return ok || pattern == ""
}

// ShortWrite, returned by a hook for OpWrite, writes the first N bytes before
// failing with Err.
type ShortWrite struct {
	N   int
	Err error
}

// Error implements error.
func (s ShortWrite) Error() string { return "vfs: short write: " + s.Err.Error() }

// Unwrap returns Err.
func (s ShortWrite) Unwrap() error { return s.Err }

// Faulty asks a hook before each operation; an error of the hook is what the
// operation returns, without having done anything.
type Faulty struct {
	fs   FS
	hook func(Op) error
}

// NewFaulty wraps a file system. The hook may be called concurrently and may
// use the wrapped file system.
func NewFaulty(inner FS, hook func(Op) error) *Faulty { return &Faulty{inner, hook} }

// FailAt returns a hook that fails the n-th (from 1) matching operation and all
// matching ones after it with err.
func FailAt(kind OpKind, pattern string, n int64, err error) func(Op) error {
	var seen atomic.Int64
	return func(o Op) error {
		if o.Matches(kind, pattern) && seen.Add(1) >= n {
			return err
		}
		return nil
	}
}

func (f *Faulty) file(kind OpKind, name string, open func(string) (File, error)) (File, error) {
	if err := f.hook(Op{kind, name}); err != nil {
		return nil, err
	}
	file, err := open(name)
	if err != nil {
		return nil, err
	}
	return &faultyFile{file, f, name}, nil
}

func (f *Faulty) do(kind OpKind, name string, do func() error) error {
	if err := f.hook(Op{kind, name}); err != nil {
		return err
	}
	return do()
}

// Open implements FS.
func (f *Faulty) Open(name string) (File, error) { return f.file(OpOpen, name, f.fs.Open) }

// OpenWrite implements FS.
func (f *Faulty) OpenWrite(name string) (File, error) { return f.file(OpOpen, name, f.fs.OpenWrite) }

// Create implements FS.
func (f *Faulty) Create(name string) (File, error) { return f.file(OpCreate, name, f.fs.Create) }

// Rename implements FS.
func (f *Faulty) Rename(from, to string) error {
	return f.do(OpRename, to, func() error { return f.fs.Rename(from, to) })
}

// Remove implements FS.
func (f *Faulty) Remove(name string) error {
	return f.do(OpRemove, name, func() error { return f.fs.Remove(name) })
}

// RemoveAll implements FS.
func (f *Faulty) RemoveAll(name string) error {
	return f.do(OpRemove, name, func() error { return f.fs.RemoveAll(name) })
}

// MkdirAll implements FS.
func (f *Faulty) MkdirAll(name string) error {
	return f.do(OpMkdir, name, func() error { return f.fs.MkdirAll(name) })
}

// ReadDir implements FS.
func (f *Faulty) ReadDir(name string) ([]Info, error) {
	if err := f.hook(Op{OpReadDir, name}); err != nil {
		return nil, err
	}
	return f.fs.ReadDir(name)
}

// Stat implements FS.
func (f *Faulty) Stat(name string) (Info, error) {
	if err := f.hook(Op{OpStat, name}); err != nil {
		return Info{}, err
	}
	return f.fs.Stat(name)
}

// SetModTime implements FS.
func (f *Faulty) SetModTime(name string, millis int64) error {
	return f.do(OpSetModTime, name, func() error { return f.fs.SetModTime(name, millis) })
}

// SyncDir implements FS.
func (f *Faulty) SyncDir(name string) error {
	return f.do(OpSyncDir, name, func() error { return f.fs.SyncDir(name) })
}

// SyncFS implements FS.
func (f *Faulty) SyncFS(name string) error {
	return f.do(OpSyncFS, name, func() error { return f.fs.SyncFS(name) })
}

// Lock implements FS.
func (f *Faulty) Lock(name string) (io.Closer, error) { return f.fs.Lock(name) }

// DiskUsage implements FS.
func (f *Faulty) DiskUsage(name string) (Usage, error) {
	if err := f.hook(Op{OpStat, name}); err != nil {
		return Usage{}, err
	}
	return f.fs.DiskUsage(name)
}

// Birth implements FS.
func (f *Faulty) Birth(name string) (uint64, error) {
	if err := f.hook(Op{OpStat, name}); err != nil {
		return 0, err
	}
	return f.fs.Birth(name)
}

type faultyFile struct {
	File
	f    *Faulty
	name string
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.f.hook(Op{OpRead, f.name}); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.f.hook(Op{OpWrite, f.name})
	var short ShortWrite
	if errors.As(err, &short) {
		n, werr := f.File.WriteAt(p[:min(short.N, len(p))], off)
		return n, errors.Join(short.Err, werr)
	}
	if err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f *faultyFile) Truncate(size int64) error {
	return f.f.do(OpTruncate, f.name, func() error { return f.File.Truncate(size) })
}

func (f *faultyFile) Sync() error { return f.f.do(OpSync, f.name, f.File.Sync) }

func (f *faultyFile) WriteOut(off, n int64, wait bool) error {
	return f.f.do(OpWriteOut, f.name, func() error { return f.File.WriteOut(off, n, wait) })
}

func (f *faultyFile) Allocate(n int64) error {
	return f.f.do(OpAllocate, f.name, func() error { return f.File.Allocate(n) })
}

func (f *faultyFile) Reserve(n int64) error {
	return f.f.do(OpReserve, f.name, func() error { return f.File.Reserve(n) })
}

func (f *faultyFile) Fd() (uintptr, bool) { return 0, false }
