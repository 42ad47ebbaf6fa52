package listener

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Sizes of a connection's read buffer: an idle connection keeps the small one,
// a busy one borrows the large one until it has drained what it was sent.
const (
	idleBuffer = 8 << 10
	busyBuffer = 64 << 10
)

// bodyStep is how much of a body may take [frames.body] to arrive: who sends
// less in that time holds memory for nothing.
const bodyStep = 1 << 20

// Buffers that a size alone gets: a connection that has sent a body as large
// before gets up to trustedBody, a stranger firstBody. Both grow with what
// arrives: three hundred connections that stall amid a large body must not hold
// hundreds of megabytes.
const (
	firstBody   = 64 << 10
	trustedBody = 2 << 20
)

var (
	errFrameSize = errors.New("listener: frame size out of bounds")
	errIdle      = errors.New("listener: connection idle")
	errSlowBody  = errors.New("listener: request body did not arrive in time")
	errStopped   = errors.New("listener: stopped")
	errHangup    = errors.New("listener: hung up")
	errShed      = errors.New("listener: closed to come down to max.connections")
)

// frames cuts requests out of a connection. It is used by one goroutine.
type frames struct {
	conn   net.Conn
	budget *Budget
	max    int
	idle   time.Duration // How long a connection may send nothing; 0 is for ever.
	body   time.Duration // How long bodyStep bytes of a request's body may take to arrive.
	stop   <-chan struct{}
	busy   func() bool // Whether answers are outstanding: then silence is not idleness.
	flush  func()      // Sends what is ready: called before waiting for the budget.

	stopping *atomic.Bool // Set before a deadline in the past ends the wait.
	muted    *mute
	sitOut   func() error // Waits until muted is over.

	small    []byte
	busyBuf  *buffer // Borrowed, or nil.
	buf      []byte  // Either small or busyBuf's.
	r, w     int     // Unread bytes are buf[r:w].
	filled   bool    // The last read filled buf: more is likely on the way.
	deadline time.Time

	claim    claim   // What the frame being read, or handed out, has of the budget.
	largest  int     // The greatest body that came whole, at most trustedBody.
	heldBody *buffer // Where that frame is, if it did not fit buf.
}

// hasFrame reports whether a whole request is already in the buffer.
func (f *frames) hasFrame() bool {
	n := f.w - f.r
	return n >= 4 && int64(n-4) >= int64(int32(binary.BigEndian.Uint32(f.buf[f.r:])))
}

// next returns the next request without its size, valid until release is
// called. It returns io.EOF when the client closed between two requests.
func (f *frames) next() (frame []byte, err error) {
	if err := f.listen(); err != nil {
		return nil, err
	}
	for f.w-f.r < 4 {
		if err := f.fill(); err != nil {
			if err == io.EOF && f.w > f.r {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	n := int(int32(binary.BigEndian.Uint32(f.buf[f.r:])))
	if n < 0 || n > f.max {
		return nil, fmt.Errorf("%w: %d, at most %d", errFrameSize, n, f.max)
	}
	if err := f.listen(); err != nil { // Muted while it waited for this request.
		return nil, err
	}
	if err := f.begin(n); err != nil {
		return nil, err
	}
	f.claim = f.budget.claim(n)
	if f.w-f.r >= 4+n { // All here: hand out the buffer itself.
		if !f.charge(n) {
			return nil, errStopped
		}
		frame = f.buf[f.r+4 : f.r+4+n : f.r+4+n]
		f.r += 4 + n
		return frame, nil
	}
	first := min(n, max(firstBody, f.largest))
	if !f.charge(first) {
		return nil, errStopped
	}
	f.heldBody = getBuffer(first)
	have := copy(f.heldBody.b, f.buf[f.r+4:f.w]) // Less than n.
	f.r, f.w = 0, 0
	if n >= busyBuffer { // The next is likely as large: little of it should be read here and copied.
		f.filled = false
	}
	if err := f.readBody(have, n); err != nil {
		f.release()
		return nil, err
	}
	f.largest = min(max(f.largest, n), trustedBody)
	return f.heldBody.b[:n:n], nil
}

// listen waits while the connection is muted.
func (f *frames) listen() error {
	if f.muted.until.Load() == 0 {
		return nil
	}
	return f.sitOut()
}

// begin waits for the first bytes of a frame of n. Until they are here it
// costs nothing: a size is quickly said.
func (f *frames) begin(n int) error {
	want := min(4+n, idleBuffer)
	if f.w-f.r >= want {
		return nil
	}
	if err := f.armBody(); err != nil {
		return err
	}
	f.shift()
	for f.w < want {
		n, err := f.conn.Read(f.buf[f.w:])
		f.w += n
		f.filled = f.w == len(f.buf)
		if err != nil && f.w < want {
			return f.bodyError(err)
		}
	}
	return nil
}

// charge takes n more bytes of the budget, after waiting if it must.
func (f *frames) charge(n int) bool {
	if f.claim.try(n) {
		return true
	}
	f.flush()
	return f.budget.acquire(&f.claim, n, f.stop)
}

// release gives back the frame that next returned.
func (f *frames) release() {
	f.claim.release()
	if f.heldBody != nil {
		putBuffer(f.heldBody)
		f.heldBody = nil
	}
}

// readBody reads the rest of a frame of n bytes, of which have are here,
// straight to where it will be used. What was charged is what may be read.
func (f *frames) readBody(have, n int) error {
	for have < n {
		if have == f.claim.held && !f.grow(min(n, 4*have)) {
			return errStopped
		}
		if err := f.armBody(); err != nil {
			return err
		}
		end := min(f.claim.held, have+bodyStep)
		if _, err := io.ReadFull(f.conn, f.heldBody.b[have:end]); err != nil {
			return f.bodyError(err)
		}
		have = end
	}
	return nil
}

// grow charges n bytes in all, and sees to it that the body has as many.
func (f *frames) grow(n int) bool {
	if !f.charge(n - f.claim.held) {
		return false
	}
	if n > len(f.heldBody.b) {
		larger := getBuffer(n)
		copy(larger.b, f.heldBody.b)
		putBuffer(f.heldBody)
		f.heldBody = larger
	}
	return true
}

// armBody gives the next step of a body its time.
func (f *frames) armBody() error {
	f.conn.SetReadDeadline(time.Now().Add(f.body))
	f.deadline = time.Time{}
	if f.stopping.Load() { // Asked after arming, as in fill.
		return errStopped
	}
	return nil
}

func (f *frames) bodyError(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && f.stopping.Load():
		return errStopped
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSlowBody
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	}
	return err
}

// shift moves what is unread to the front of the buffer.
func (f *frames) shift() {
	if f.r > 0 {
		f.w = copy(f.buf, f.buf[f.r:f.w])
		f.r = 0
	}
}

// fill reads once into the buffer.
func (f *frames) fill() error {
	if f.r == f.w {
		f.r, f.w = 0, 0
		f.resize()
	} else {
		f.shift()
	}
	for {
		f.arm()
		if f.stopping.Load() { // Asked after arming: stopReading sets, then moves the deadline.
			return errStopped
		}
		n, err := f.conn.Read(f.buf[f.w:])
		f.w += n
		f.filled = f.w == len(f.buf)
		if n > 0 {
			return nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			f.deadline = time.Time{}
			if f.stopping.Load() {
				return errStopped
			}
			if f.busy() && f.w == 0 {
				continue
			}
			return errIdle
		}
		if err != nil {
			return err
		}
	}
}

// arm sets the idle deadline, but not for every read: it is moved only when a
// sixteenth of it has passed.
func (f *frames) arm() {
	if f.idle <= 0 {
		if f.deadline.IsZero() {
			f.conn.SetReadDeadline(time.Time{})
			f.deadline = time.Unix(1<<40, 0)
		}
		return
	}
	want := time.Now().Add(f.idle)
	if want.Sub(f.deadline) > f.idle/16 {
		f.conn.SetReadDeadline(want)
		f.deadline = want
	}
}

// resize picks the buffer for what comes next; nothing is unread.
func (f *frames) resize() {
	switch {
	case f.filled && f.busyBuf == nil:
		f.busyBuf = getBuffer(busyBuffer)
		f.buf = f.busyBuf.b[:busyBuffer]
	case !f.filled && (f.busyBuf != nil || f.buf == nil):
		f.close()
		if f.small == nil {
			f.small = make([]byte, idleBuffer)
		}
		f.buf = f.small
	}
	f.filled = false
}

// close gives back the borrowed buffer.
func (f *frames) close() {
	if f.busyBuf != nil {
		putBuffer(f.busyBuf)
		f.busyBuf = nil
	}
	f.buf = nil
}

// buffer is a pooled slice; the pointer keeps sync.Pool from allocating.
type buffer struct{ b []byte }

// Classes of pooled buffers: powers of two from 16 KiB to 128 MiB, each with
// slack for the header that turns a round batch into a slightly larger frame.
const (
	minClass = 14
	maxClass = 27
	slack    = 4 << 10
)

var buffers [maxClass - minClass + 1]sync.Pool

func class(n int) int {
	if n <= 1<<minClass+slack {
		return 0
	}
	return bits.Len(uint(n-slack-1)) - minClass
}

func getBuffer(n int) *buffer {
	k := class(n)
	if k >= len(buffers) {
		return &buffer{make([]byte, n)}
	}
	if b, ok := buffers[k].Get().(*buffer); ok {
		return b
	}
	return &buffer{make([]byte, 1<<(k+minClass)+slack)}
}

func putBuffer(b *buffer) {
	b.b = b.b[:cap(b.b)]
	k := class(len(b.b))
	if k < len(buffers) && len(b.b) == 1<<(k+minClass)+slack {
		buffers[k].Put(b)
	}
}
