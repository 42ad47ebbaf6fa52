package broker

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/vfs"
)

// spied is a listener that shows the node's end of its connections.
type spied struct {
	net.Listener
	conns chan net.Conn
}

func (s spied) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err == nil {
		s.conns <- c
	}
	return c, err
}

// peek reads something of a socket.
func peek(t *testing.T, c syscall.Conn, f func(fd int) (int, error)) (got int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { got, err = f(int(fd)) })
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestSocketSettings looks at real sockets.
func TestSocketSettings(t *testing.T) {
	conns := make(chan net.Conn, 1)
	started := func(spy bool, option string) (*Broker, *net.TCPListener) {
		t.Helper()
		cfg, _, err := config.Load(config.Sources{
			Flags:   map[string]string{"http.listen": ""},
			Options: []string{"log.dirs=/a", option}, MemoryBytes: 1 << 30,
		})
		if err != nil {
			t.Fatal(err)
		}
		var real net.Listener
		b, err := Start(Options{
			Config: cfg, FS: vfs.NewMem(), Log: slog.New(slog.DiscardHandler), Now: time.Now,
			Listen: func(string, string) (net.Listener, error) {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if real = l; spy {
					return spied{l, conns}, err
				}
				return l, err
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return b, real.(*net.TCPListener)
	}
	buffer := func(key string, option int) {
		t.Helper()
		b, l := started(true, key+"=30000")
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ours := <-conns
		// The sizes are set after the connection was accepted, and doubled by Linux.
		var got int
		for range 1000 {
			got = peek(t, ours.(*net.TCPConn), func(fd int) (int, error) { return unix.GetsockoptInt(fd, unix.SOL_SOCKET, option) })
			if got == 60000 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if got != 60000 {
			t.Errorf("%s=30000: %d", key, got)
		}
		c.Close()
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	}
	buffer("socket.send.buffer.bytes", unix.SO_SNDBUF)
	buffer("socket.receive.buffer.bytes", unix.SO_RCVBUF)
	b, l := started(false, "socket.listen.backlog.size=7")
	got := peek(t, l, func(fd int) (int, error) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return 0, err
		}
		return int(info.Sacked), nil // Of a socket that listens, the longest queue.
	})
	if got != 7 {
		t.Errorf("socket.listen.backlog.size=7: %d", got)
	}
	if err := b.Stop(); err != nil {
		t.Error(err)
	}
}

// TestPagesWhileStarting: a node whose start takes long says that it lives, and is not ready.
func TestPagesWhileStarting(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := free.Addr().String()
	free.Close()
	cfg, _, err := config.Load(config.Sources{Flags: map[string]string{"http.listen": at}, Options: []string{"log.dirs=/a"}, MemoryBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	began, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	slow := vfs.NewFaulty(vfs.NewMem(), func(vfs.Op) error {
		once.Do(func() { close(began); <-goOn })
		return nil
	})
	type started struct {
		b   *Broker
		err error
	}
	done := make(chan started)
	go func() {
		b, err := Start(Options{
			Config: cfg, FS: slow, Log: slog.New(slog.DiscardHandler), Now: time.Now,
			Listen: func(string, string) (net.Listener, error) { return quiet{make(chan struct{})}, nil },
		})
		done <- started{b, err}
	}()
	page := func(path string) (int, string) {
		t.Helper()
		r, err := http.Get("http://" + at + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(body)
	}
	f := func(when string, ready int, metric, more string) {
		t.Helper()
		if code, _ := page("/live"); code != http.StatusOK {
			t.Errorf("%s: live: %d", when, code)
		}
		if code, _ := page("/ready"); code != ready {
			t.Errorf("%s: ready: %d", when, code)
		}
		if code, body := page("/metrics"); code != http.StatusOK || !strings.Contains(body, "\n"+metric+"\n") || !strings.Contains(body, more) {
			t.Errorf("%s: metrics: %d %s", when, code, body)
		}
	}
	<-began
	f("while it starts", http.StatusServiceUnavailable, "barnabas_ready 0", "barnabas_build_info")
	close(goOn)
	s := <-done
	if s.err != nil {
		t.Fatal(s.err)
	}
	f("started", http.StatusOK, "barnabas_ready 1", "barnabas_replicas_partitions 0")
	http.DefaultClient.CloseIdleConnections()
	if err := s.b.Stop(); err != nil {
		t.Error(err)
	}
}

// TestPagesListen: the pages for those who operate the node are where http.listen
// says, or nowhere.
func TestPagesListen(t *testing.T) {
	f := func(at string, want bool) {
		t.Helper()
		cfg, _, err := config.Load(config.Sources{
			Flags: map[string]string{"http.listen": at}, Options: []string{"log.dirs=/a"}, MemoryBytes: 1 << 30,
		})
		if err != nil {
			t.Fatal(err)
		}
		b, err := Start(Options{
			Config: cfg, FS: vfs.NewMem(), Log: slog.New(slog.DiscardHandler), Now: time.Now,
			Listen: func(string, string) (net.Listener, error) { return quiet{make(chan struct{})}, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		if b.httpAddr != nil != want {
			t.Errorf("%q: pages at %v", at, b.httpAddr)
		}
		if want {
			r, err := http.Get("http://" + b.httpAddr.String() + "/live")
			if err != nil || r.StatusCode != http.StatusOK {
				t.Error(r, err)
			} else {
				r.Body.Close()
			}
			http.DefaultClient.CloseIdleConnections()
		}
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	}
	f("127.0.0.1:0", true)
	f("", false)
}
