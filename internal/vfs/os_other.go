//go:build unix && !linux

package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

const setLock = unix.F_SETLK

// SyncFS implements FS.
func (OS) SyncFS(string) error { return unix.Sync() }

func fdatasync(f *os.File) error { return f.Sync() }

func writeOut(*os.File, int64, int64, bool) error { return nil }

// allocate writes zeros where there is no fallocate.
func allocate(f *os.File, n int64) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for at := st.Size(); at < n; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), n-at)], at); err != nil {
			return err
		}
	}
	return nil
}

func reserve(*os.File, int64) error { return nil }

func modMillis(st *unix.Stat_t) int64 { return st.Mtim.Sec*1000 + int64(st.Mtim.Nsec)/1e6 }

// Birth implements FS.
func (OS) Birth(name string) (uint64, error) { return inode(name) }
