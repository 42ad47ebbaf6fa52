//go:build unix

package listener

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// When nearly all descriptors are taken a new connection is turned away, and one
// comes in when there are others again.
func TestDescriptorsAreKept(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dropped := make(chan error, 10)
	s := NewServer(Options{
		Budget: NewBudget(1 << 20), MaxFrame: 1 << 20, Open: func(*Conn) Session { return echo{} },
		Dropped: func(_ net.Addr, err error) { dropped <- err },
	})
	// So many are open already that the next one is the last.
	var files []*os.File
	for range 20 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	if limit := descriptorLimit(); limit < files[0].Fd() {
		t.Fatalf("limit %d", limit)
	}
	s.descriptors = files[0].Fd() + 10 // One of the client, one of the server.
	done := make(chan error, 1)
	go func() { done <- s.Run(l) }()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(time.Minute))
		return c
	}
	c := dial()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF && err == nil {
		t.Errorf("let in: %v", err)
	}
	c.Close()
	if err := <-dropped; !errors.Is(err, errDescriptors) {
		t.Error(err)
	}
	for _, f := range files {
		f.Close()
	}
	c = dial()
	if _, err := c.Write(request(opEcho, 1, 1, 2, 3, 4)); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Errorf("not let in: %v", err)
	}
	c.Close()
	s.Stop(t.Context())
	if err := <-done; err != nil {
		t.Error(err)
	}
}
