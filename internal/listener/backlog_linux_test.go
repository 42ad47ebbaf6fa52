package listener

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// The queue of a listener is as long as it is told, which Linux shows.
func TestBacklog(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	usual := backlog(t, l)
	f := func(set int, want uint32) {
		t.Helper()
		if err := SetBacklog(l, set); err != nil {
			t.Fatal(err)
		}
		if got := backlog(t, l); got != want {
			t.Errorf("set to %d: %d, want %d", set, got, want)
		}
	}
	f(-1, usual)
	f(7, 7)
	f(50, 50)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// backlog is the most connections that may wait: for a socket that listens,
// TCP_INFO has it in the field of packets acknowledged selectively.
func backlog(t *testing.T, l net.Listener) (most uint32) {
	t.Helper()
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Error(err)
			return
		}
		most = info.Sacked
	}); err != nil {
		t.Fatal(err)
	}
	return most
}
