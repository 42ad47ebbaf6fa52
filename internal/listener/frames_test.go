package listener

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// FuzzFrames cuts any bytes, split at random, as slicing the whole would.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{}, uint64(1))
	f.Add([]byte{0, 0, 0}, uint64(2))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 1, 9}, uint64(3))
	f.Add([]byte{0, 0, 0, 2, 9}, uint64(4))
	f.Add([]byte{255, 255, 255, 255, 1}, uint64(5))
	f.Add([]byte{0, 1, 0, 1, 1}, uint64(6))
	for _, n := range []int{idleBuffer - 4, idleBuffer, smallFrame} {
		b := append(binary.BigEndian.AppendUint32(nil, uint32(n)), make([]byte, n)...)
		f.Add(bytes.Repeat(b, 2), uint64(n))
	}
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		const maxFrame = 1 << 16
		budget := NewBudget(1 << 20)
		c := &frames{
			conn: &splitConn{left: stream, r: rand.New(rand.NewPCG(seed, 0))}, budget: budget, max: maxFrame,
			idle: time.Hour, body: time.Hour, busy: func() bool { return false }, flush: func() {}, stopping: new(atomic.Bool), muted: &mute{},
		}
		defer c.close()
		for left := stream; ; {
			want, rest, wantErr := cut(left, maxFrame)
			whole := c.hasFrame() && wantErr == nil
			got, err := c.next()
			if !errors.Is(err, wantErr) {
				t.Fatalf("seed %d: %d bytes left: %v, want %v", seed, len(left), err, wantErr)
			}
			if err != nil {
				break
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("seed %d: %d bytes left: a wrong frame of %d bytes, want %d", seed, len(left), len(got), len(want))
			}
			if whole && c.heldBody != nil {
				t.Fatalf("seed %d: a frame said to be here was read", seed)
			}
			if budget.InUse() != int64(len(got)) {
				t.Fatalf("seed %d: a frame of %d bytes is charged %d", seed, len(got), budget.InUse())
			}
			c.release()
			left = rest
		}
		if budget.InUse() != 0 {
			t.Fatalf("seed %d: %d bytes are charged at the end", seed, budget.InUse())
		}
	})
}

// A client that claims much and sends little costs what it sent, not what it
// claimed.
func TestClaimIsCheap(t *testing.T) {
	const sent, claims = 1 << 20, 100 << 20
	stream := append(binary.BigEndian.AppendUint32(nil, claims), make([]byte, sent)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c := &frames{
		conn: &splitConn{left: stream, r: rand.New(rand.NewPCG(1, 0))}, budget: NewBudget(1 << 30), max: claims,
		idle: time.Hour, body: time.Hour, busy: func() bool { return false }, flush: func() {}, stopping: new(atomic.Bool), muted: &mute{},
	}
	if _, err := c.next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 6*sent {
		t.Errorf("a claim of %d bytes of which %d came took %d of memory", claims, sent, n)
	}
}

// cut is what frames does, without buffers.
func cut(b []byte, maxFrame int) (frame, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, io.EOF
	}
	if len(b) < 4 {
		return nil, nil, io.ErrUnexpectedEOF
	}
	n := int(int32(binary.BigEndian.Uint32(b)))
	if n < 0 || n > maxFrame {
		return nil, nil, errFrameSize
	}
	if len(b) < 4+n {
		return nil, nil, io.ErrUnexpectedEOF
	}
	return b[4 : 4+n], b[4+n:], nil
}

// splitConn gives bytes in random pieces.
type splitConn struct {
	net.Conn
	left []byte
	r    *rand.Rand
}

func (c *splitConn) Read(b []byte) (int, error) {
	if len(c.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.left[:min(len(c.left), 1+c.r.IntN(1<<c.r.IntN(17)))])
	c.left = c.left[n:]
	return n, nil
}

func (c *splitConn) SetReadDeadline(time.Time) error { return nil }
