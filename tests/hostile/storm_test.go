package hostile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// attackers is how many hostile connections have a frame under way at a time.
const attackers = 8

// patience is how long an attacker waits for an answer, or for the end of its
// connection, before it goes on with another. Both may be missing: acks=0 asks
// for neither.
const patience = time.Second

// attack sends frames from many connections, and lets go of each connection
// that the broker closes.
type attack struct {
	addr     string
	sent     atomic.Int64
	answered atomic.Int64
	closed   atomic.Int64
	silent   atomic.Int64
}

// run sends n frames of a kind; cut ends the connection after each frame, whose
// rest never comes.
func (a *attack) run(t *testing.T, seed uint64, n int, cut bool, frame func(*rand.Rand) []byte) {
	var running sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(n))
	for i := range uint64(attackers) {
		running.Go(func() {
			r := rand.New(rand.NewPCG(seed, i))
			var c net.Conn
			for left.Add(-1) >= 0 {
				if c == nil {
					var err error
					if c, err = dial(a.addr, r); err != nil {
						t.Errorf("the broker takes no connection: %v", err)
						return
					}
				}
				if !a.send(c, frame(r), cut) {
					c.Close()
					c = nil
				}
			}
			if c != nil {
				c.Close()
			}
		})
	}
	running.Wait()
}

// dial connects from one of many loopback addresses, so that ports do not run
// out.
func dial(addr string, r *rand.Rand) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+r.IntN(250)))}}
	return d.Dial("tcp", addr)
}

// send sends a frame and takes one answer. It reports whether the connection
// can be used again.
func (a *attack) send(c net.Conn, frame []byte, cut bool) bool {
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	_, err := c.Write(frame)
	a.sent.Add(1)
	if err != nil {
		a.closed.Add(1)
		return false
	}
	if cut {
		_ = c.(*net.TCPConn).CloseWrite()
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	var size [4]byte
	_, err = io.ReadFull(c, size[:])
	if err == nil {
		_, err = io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(size[:])))
	}
	switch {
	case err == nil:
		a.answered.Add(1)
		return !cut
	case errors.Is(err, os.ErrDeadlineExceeded):
		a.silent.Add(1)
	default:
		a.closed.Add(1)
	}
	return false
}

func (a *attack) String() string {
	return fmt.Sprintf("%d sent, %d answered, %d closed, %d silent", a.sent.Load(), a.answered.Load(), a.closed.Load(), a.silent.Load())
}

// stall opens n connections that say nothing, half a size, half a header, or
// some of a large body, and keep still.
func stall(t *testing.T, addr string, seed uint64, n int) (release func()) {
	r := rand.New(rand.NewPCG(seed, 99))
	var all []net.Conn
	for i := range n {
		c, err := dial(addr, r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
		var b []byte
		switch i % 5 {
		case 1:
			b = []byte{0, 0}
		case 2:
			b = []byte{0, 0, 1, 0, 0, 0}
		case 3: // 100 MiB are on their way.
			b = append(binary.BigEndian.AppendUint32(nil, 100<<20), 0, 0, 0, 9)
		case 4:
			b = append(binary.BigEndian.AppendUint32(nil, 90<<20), make([]byte, 20<<10)...)
		}
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		for _, c := range all {
			c.Close()
		}
	}
}

// flood opens and drops connections as fast as it goes.
func flood(t *testing.T, addr string, seed uint64, n int) {
	var running sync.WaitGroup
	for i := range uint64(attackers) {
		running.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1000+i))
			for range n / attackers {
				c, err := dial(addr, r)
				if err != nil {
					t.Errorf("the broker takes no connection: %v", err)
					return
				}
				c.Close()
			}
		})
	}
	running.Wait()
}
