package diskpercent

import (
	"os"
	"syscall"
	"unsafe"
)

// shutdownFS makes a file system fail as a disk does that is torn out
// (FS_IOC_SHUTDOWN, without writing its log).
func shutdownFS(f *os.File) error {
	const request, withoutLog = 0x8004587d, uint32(2)
	flags := withoutLog
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		return errno
	}
	return nil
}
