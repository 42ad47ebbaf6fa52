//go:build unix

package listener

import (
	"math"
	"net"
	"syscall"
)

// keptDescriptors are left to the files of logs, if there are eight times as many
// in all, or an eighth: else who opens connections enough takes partitions offline,
// because nobody can sync a directory any more.
const keptDescriptors = 1000

// descriptorLimit is the number from which on a descriptor is not for a connection.
// The system gives the lowest that is free.
func descriptorLimit() uintptr {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return math.MaxInt
	}
	most := uint64(r.Cur)
	return uintptr(min(most-min(most/8, keptDescriptors), math.MaxInt))
}

// descriptorOf is the descriptor of a connection, 0 of one that has none.
func descriptorOf(nc net.Conn) (fd uintptr) {
	if tls, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = tls.NetConn()
	}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			_ = raw.Control(func(n uintptr) { fd = n }) // Closed already: it has none.
		}
	}
	return fd
}
