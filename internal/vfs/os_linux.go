package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// setLock is an open-file-description lock: unlike F_SETLK it is not lost when
// another descriptor of the same file is closed in this process.
const setLock = unix.F_OFD_SETLK

// SyncFS implements FS.
func (OS) SyncFS(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return syncfs(f)
}

func syncfs(f *os.File) error {
	if err := ignoringEINTR(func() error { return unix.Syncfs(int(f.Fd())) }); err != nil {
		return &os.PathError{Op: "syncfs", Path: f.Name(), Err: err}
	}
	return nil
}

// SyncFS syncs the file system that the lock file is on. A descriptor that
// stays open learns of every write error since its last SyncFS; one that is
// opened for the purpose would miss those that somebody else was told of.
func (l osLock) SyncFS() error { return syncfs(l.File) }

func fdatasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

func writeOut(f *os.File, off, n int64, wait bool) error {
	flags := unix.SYNC_FILE_RANGE_WRITE
	if wait {
		flags |= unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	}
	return unix.SyncFileRange(int(f.Fd()), off, n, flags)
}

func allocate(f *os.File, n int64) error { return unix.Fallocate(int(f.Fd()), 0, 0, n) }

func reserve(f *os.File, n int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, n)
}

func modMillis(st *unix.Stat_t) int64 { return int64(st.Mtim.Sec)*1000 + int64(st.Mtim.Nsec)/1e6 }

// Birth implements FS.
func (OS) Birth(name string) (uint64, error) {
	var st unix.Statx_t
	err := ignoringEINTR(func() error { return unix.Statx(unix.AT_FDCWD, name, 0, unix.STATX_INO|unix.STATX_BTIME, &st) })
	switch {
	case errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM): // Kernels before 4.11, and old sandboxes.
		return inode(name)
	case err != nil:
		return 0, &os.PathError{Op: "statx", Path: name, Err: err}
	case st.Mask&unix.STATX_BTIME == 0:
		return st.Ino, nil
	}
	// The root of a file system has the same inode on many of them.
	return st.Ino ^ uint64(st.Btime.Sec)*1e9 + uint64(st.Btime.Nsec), nil
}
