//go:build unix

package listener

import (
	"net"
	"syscall"
)

// SetBacklog bounds the connections that wait for l to accept them; the system
// has a bound of its own above it. Below 1, and for what is no socket, it does
// nothing.
func SetBacklog(l net.Listener, connections int) error {
	tcp, ok := l.(*net.TCPListener)
	if !ok || connections < 1 {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var listenErr error
	// Listening anew on a socket that listens changes the length of its queue.
	err = raw.Control(func(fd uintptr) { listenErr = syscall.Listen(int(fd), connections) })
	if err != nil {
		return err
	}
	return listenErr
}
