package listener

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Limits of what one connection may have outstanding. A client that sends
// requests without reading answers is not read further.
const (
	maxQueued      = 256     // Answers in order; Java clients have five in flight, kcat up to a few hundred.
	maxQueuedBytes = 4 << 20 // Bytes of answers built and not yet taken by the client.
	maxFree        = 64      // Answers kept for the next requests, each with a buffer of up to keptAnswer.
)

// Session is what the upper floor keeps per connection. Handle is called by
// one goroutine, in the order of the requests.
type Session interface {
	// Handle takes one request, without its size prefix. The frame is valid
	// until Handle returns. Handle must complete or park a.
	Handle(frame []byte, a *Answer)
	// Close is called once, after the last Handle and the last Poll.
	Close()
}

// Conn is one client's connection.
type Conn struct {
	net     net.Conn
	server  *Server
	session Session
	frames  frames
	wake    chan struct{} // Holds a token when the writer has something to look at.
	gone    chan struct{} // Closed when either side gives up.
	halt    chan struct{} // Closed when the server stops.
	muted   mute

	mu struct {
		sync.Mutex
		queue   []*Answer // In the order of the requests.
		free    []*Answer
		bytes   int  // Of ready answers in queue.
		writing bool // Somebody is in flush.
		closed  bool
	}
	room    *sync.Cond // On mu: the queue has become shorter.
	scratch net.Buffers
	joined  []byte        // Small answers written together.
	cork    func(on bool) // See corker.
	ends    sync.Once
	why     error // Set in ends: why the connection was closed, if somebody else than its reader did.

	writeDeadline time.Time // Guarded by being in flush.

	stopping atomic.Bool // The server stops: no further request is read.
	dying    atomic.Bool // An answer is a Hangup: no further request is read.
}

// RemoteAddr is the client's address.
func (c *Conn) RemoteAddr() net.Addr { return c.net.RemoteAddr() }

// LocalAddr is the address that the client reached us by.
func (c *Conn) LocalAddr() net.Addr { return c.net.LocalAddr() }

// serve runs the connection until it ends.
func (c *Conn) serve() {
	var writer sync.WaitGroup
	writer.Go(c.write)
	err := c.read()
	c.drain(err)
	c.close(err)
	writer.Wait()
	c.abandon()
	c.session.Close()
	c.frames.close()
	if !expected(c.why) {
		c.server.opts.Dropped(c.RemoteAddr(), c.why)
	}
}

// read is the reader goroutine.
func (c *Conn) read() error {
	for {
		frame, err := c.frames.next()
		if err != nil {
			return err
		}
		c.server.stats.Requests.Add(1)
		a := c.enqueue()
		if a == nil {
			c.frames.release()
			return errStopped
		}
		c.session.Handle(frame, a)
		c.frames.release()
		if c.dying.Load() {
			return errHangup
		}
		if !c.frames.hasFrame() {
			c.flush()
		}
	}
}

// write is the writer goroutine: it flushes when a parked answer was woken.
func (c *Conn) write() {
	for {
		select {
		case <-c.wake:
			c.flush()
		case <-c.gone:
			return
		}
	}
}

func (c *Conn) wakeWriter() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// enqueue takes the next place in the order, after waiting for room. It
// returns nil when the connection has ended.
func (c *Conn) enqueue() *Answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.mu.queue) >= maxQueued || c.mu.bytes >= maxQueuedBytes {
		c.mu.Unlock()
		c.flush()
		c.mu.Lock()
		for !c.mu.closed && (len(c.mu.queue) >= maxQueued || c.mu.bytes >= maxQueuedBytes) {
			c.room.Wait()
		}
	}
	if c.mu.closed {
		return nil
	}
	var a *Answer
	if n := len(c.mu.free); n > 0 {
		a, c.mu.free = c.mu.free[n-1], c.mu.free[:n-1]
	} else {
		a = &Answer{conn: c}
	}
	c.mu.queue = append(c.mu.queue, a)
	return a
}

// flush writes every answer that is ready and next in order. One caller at a
// time does the work; the others leave it to that one.
func (c *Conn) flush() {
	c.mu.Lock()
	if c.mu.writing || c.mu.closed {
		c.mu.Unlock()
		return
	}
	c.mu.writing = true
	for !c.mu.closed {
		n := c.readyLocked()
		if n == 0 {
			if !c.pollLocked() {
				break
			}
			continue
		}
		run := c.mu.queue[:n]
		hangup := run[n-1].state == answerHangup
		c.mu.Unlock()
		err := c.send(run)
		for _, a := range run {
			a.closeViews()
		}
		c.mu.Lock()
		c.recycleLocked(n)
		if hangup && err == nil {
			err = errHangup
		}
		if err != nil {
			c.mu.writing = false
			c.mu.Unlock()
			c.close(err)
			return
		}
	}
	c.mu.writing = false
	c.mu.Unlock()
}

// readyLocked counts the answers at the head of the queue that can go now; a
// hangup is the last of its run.
func (c *Conn) readyLocked() int {
	for i, a := range c.mu.queue {
		switch a.state {
		case answerReady, answerSkip:
		case answerHangup:
			return i + 1
		default:
			return i
		}
	}
	return len(c.mu.queue)
}

// pollLocked gives the next answer, if it was woken, its chance. It reports
// whether there was something to do.
func (c *Conn) pollLocked() bool {
	if len(c.mu.queue) == 0 {
		return false
	}
	a := c.mu.queue[0]
	if a.state != answerParked || !a.woken.Swap(false) {
		return false
	}
	p := a.pending
	c.mu.Unlock()
	p.Poll(a)
	c.mu.Lock()
	return true
}

func (c *Conn) recycleLocked(n int) {
	for _, a := range c.mu.queue[:n] {
		c.mu.bytes -= len(a.out)
		a.reset()
		if len(c.mu.free) < maxFree {
			c.mu.free = append(c.mu.free, a)
		}
	}
	rest := copy(c.mu.queue, c.mu.queue[n:])
	clear(c.mu.queue[rest:])
	c.mu.queue = c.mu.queue[:rest]
	c.room.Broadcast()
}

// joinUpTo is the greatest answer that is copied to go out with its neighbours
// in one write, rather than as a piece of its own.
const joinUpTo = 4 << 10

// maxJoined is how much is copied for one write: beyond, a call more costs
// less than the memory that the connection would keep.
const maxJoined = 16 << 10

// send writes a run of ready answers in as few calls as possible.
func (c *Conn) send(run []*Answer) error {
	began := time.Now()
	c.armWrite(began)
	defer func() { c.server.stats.Sends.Observe(time.Since(began)) }()
	c.joined = c.joined[:0]
	corked := false
	for _, a := range run {
		var err error
		switch {
		case a.state != answerReady:
		case len(a.views) == 0 && len(a.out) <= joinUpTo:
			err = c.join(a.out)
		default:
			if !corked {
				c.cork(true)
				defer c.cork(false)
				corked = true
			}
			err = c.sendLarge(a)
		}
		if err != nil {
			return err
		}
	}
	return c.sendJoined()
}

// armWrite gives the client until the idle time to take what is sent, or it
// could hold views and memory for ever. As with reading, the deadline is moved
// only when a sixteenth has passed.
func (c *Conn) armWrite(now time.Time) {
	idle := c.server.opts.Idle
	if idle <= 0 {
		return
	}
	want := now.Add(idle)
	if want.Sub(c.writeDeadline) > idle/16 {
		c.net.SetWriteDeadline(want)
		c.writeDeadline = want
	}
}

// join puts at most joinUpTo bytes behind those that go out in the next write.
func (c *Conn) join(b []byte) error {
	if len(c.joined)+len(b) > maxJoined {
		if err := c.sendJoined(); err != nil {
			return err
		}
	}
	c.joined = append(c.joined, b...)
	return nil
}

func (c *Conn) sendJoined() error {
	if len(c.joined) == 0 {
		return nil
	}
	c.server.stats.BytesOut.Add(uint64(len(c.joined)))
	_, err := c.net.Write(c.joined)
	c.joined = c.joined[:0]
	return err
}

// sendLarge writes what was joined so far and then an answer that has views or
// is too long to copy.
func (c *Conn) sendLarge(a *Answer) error {
	at := 0
	for _, p := range a.views {
		if err := c.sendPiece(a.out[at:p.at]); err != nil {
			return err
		}
		at = p.at
		if p.view.Size() == 0 {
			continue
		}
		if err := c.sendJoined(); err != nil {
			return err
		}
		n, err := p.view.WriteTo(c.net)
		c.server.stats.BytesOut.Add(uint64(n))
		if err != nil {
			return err
		}
		if n != int64(p.view.Size()) {
			return io.ErrShortWrite
		}
	}
	return c.sendPiece(a.out[at:])
}

// sendPiece joins a small piece and writes a large one, with what was joined
// before it.
func (c *Conn) sendPiece(b []byte) error {
	if len(b) <= joinUpTo {
		return c.join(b)
	}
	c.scratch = c.scratch[:0]
	if len(c.joined) > 0 {
		c.scratch = append(c.scratch, c.joined)
	}
	c.scratch = append(c.scratch, b)
	c.server.stats.BytesOut.Add(uint64(len(c.joined) + len(b)))
	pieces := c.scratch
	_, err := pieces.WriteTo(c.net)
	c.joined = c.joined[:0]
	return err
}

// drain sends what is ready. Where it was not the client who ended, it also
// waits for the answers that are still being made, until they are out or the
// server's patience ends and it calls close.
func (c *Conn) drain(why error) {
	c.flush()
	if !errors.Is(why, errStopped) && !errors.Is(why, errHangup) && !errors.Is(why, errFrameSize) {
		return
	}
	c.mu.Lock()
	for !c.mu.closed && len(c.mu.queue) > 0 {
		c.room.Wait()
	}
	c.mu.Unlock()
}

// stopReading ends the reader at the next request's border.
func (c *Conn) stopReading() {
	if c.stopping.Swap(true) {
		return
	}
	close(c.halt)
	c.net.SetReadDeadline(time.Unix(1, 0))
}

// busy reports whether answers are outstanding.
func (c *Conn) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.mu.queue) > 0
}

// close ends the connection. Whoever notices first calls it and says why; the
// reader then cleans up.
func (c *Conn) close(why error) {
	c.ends.Do(func() {
		c.why = why
		c.mu.Lock()
		c.mu.closed = true
		c.room.Broadcast()
		c.mu.Unlock()
		close(c.gone)
		c.net.Close()
	})
}

// abandon releases what the answers that were never sent hold. Reader and
// writer have ended.
func (c *Conn) abandon() {
	for _, a := range c.mu.queue {
		if a.pending != nil {
			a.pending.Cancel()
		}
		a.closeViews()
	}
	c.mu.queue = nil
}

// expected tells the ends of connections that are nobody's business.
func expected(err error) bool {
	for _, e := range []error{io.EOF, net.ErrClosed, os.ErrDeadlineExceeded, syscall.EPIPE, syscall.ECONNRESET, errIdle, errStopped, errHangup, errShed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func newConn(s *Server, nc net.Conn) *Conn {
	c := &Conn{net: nc, server: s, wake: make(chan struct{}, 1), gone: make(chan struct{}), halt: make(chan struct{}), cork: corker(nc)}
	c.muted.born = time.Now()
	c.room = sync.NewCond(&c.mu)
	c.frames = frames{
		conn: nc, budget: s.opts.Budget, max: s.opts.MaxFrame, idle: s.opts.Idle, body: 30 * time.Second,
		stop: c.gone, busy: c.busy, flush: c.flush, stopping: &c.stopping,
		muted: &c.muted, sitOut: c.sitOut,
	}
	return c
}
