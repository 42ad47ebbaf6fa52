//go:build !linux

package main

import "golang.org/x/sys/unix"

func openFilesLimit() (uint64, bool) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, false
	}
	return uint64(r.Max), true
}

// The rest is known on Linux only.

func clockSynchronised() (synchronised, known bool) { return false, false }

func memoryLimit() (int64, bool) { return 0, false }

func inodesUsed(string) (percent float64, ok bool) { return 0, false }

func diskOf(string) diskInfo { return diskInfo{} }
