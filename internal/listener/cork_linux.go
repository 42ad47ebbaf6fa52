package listener

import (
	"net"

	"golang.org/x/sys/unix"
)

// corker returns a function that holds back partial segments, so that the
// header of an answer and the file sections behind it share packets.
func corker(c net.Conn) func(on bool) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return func(bool) {}
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return func(bool) {}
	}
	return func(on bool) {
		v := 0
		if on {
			v = 1
		}
		// Failing to cork costs packets, nothing else.
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, v) })
	}
}
