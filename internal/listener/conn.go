package listener

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of what one connection may have outstanding. A client that sends
// requests without reading answers is not read further.
const (
	maxQueued      = 256     // Answers in order; Java clients have five in flight, kcat up to a few hundred.
	maxQueuedBytes = 4 << 20 // Bytes of answers built and not yet taken by the client.
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
	joined  []byte // Small answers written together.
	ends    sync.Once

	stopping atomic.Bool // The server stops: no further request is read.
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
	c.close()
	writer.Wait()
	c.abandon()
	c.session.Close()
	c.frames.close()
	if err != nil && !expected(err) {
		c.server.opts.Dropped(c.RemoteAddr(), err)
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
		c.mu.Lock()
		c.recycleLocked(n)
		if err != nil || hangup {
			c.mu.writing = false
			c.mu.Unlock()
			c.close()
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
		c.mu.free = append(c.mu.free, a)
	}
	rest := copy(c.mu.queue, c.mu.queue[n:])
	clear(c.mu.queue[rest:])
	c.mu.queue = c.mu.queue[:rest]
	c.room.Broadcast()
}

// joinUpTo is the greatest answer that is copied to go out with its neighbours
// in one write, rather than as a piece of its own.
const joinUpTo = 4 << 10

// send writes a run of ready answers in as few calls as possible.
func (c *Conn) send(run []*Answer) error {
	c.joined = c.joined[:0]
	for _, a := range run {
		switch {
		case a.state != answerReady:
		case len(a.views) == 0 && len(a.out) <= joinUpTo:
			c.joined = append(c.joined, a.out...)
		default:
			if err := c.sendLarge(a); err != nil {
				return err
			}
		}
	}
	return c.sendJoined()
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
	cork := corker(c.net)
	cork(true)
	defer cork(false)
	at := 0
	for _, p := range a.views {
		c.joined = append(c.joined, a.out[at:p.at]...)
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
	rest := a.out[at:]
	if len(rest) <= joinUpTo {
		c.joined = append(c.joined, rest...)
		return nil
	}
	c.scratch = append(c.scratch[:0], c.joined, rest)
	c.server.stats.BytesOut.Add(uint64(len(c.joined) + len(rest)))
	pieces := c.scratch
	_, err := pieces.WriteTo(c.net)
	c.joined = c.joined[:0]
	return err
}

// drain lets the clients of a server that stops have the answers that are
// still being made, until the server's patience ends and it calls close.
func (c *Conn) drain(why error) {
	if !errors.Is(why, errStopped) {
		return
	}
	c.flush()
	c.mu.Lock()
	for !c.mu.closed && len(c.mu.queue) > 0 {
		c.room.Wait()
	}
	c.mu.Unlock()
}

// stopReading ends the reader at the next request's border.
func (c *Conn) stopReading() {
	c.stopping.Store(true)
	c.net.SetReadDeadline(time.Unix(1, 0))
}

// busy reports whether answers are outstanding.
func (c *Conn) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.mu.queue) > 0
}

// close ends the connection. Whoever notices first calls it; the reader then
// cleans up.
func (c *Conn) close() {
	c.ends.Do(func() {
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
		a.reset()
	}
	c.mu.queue = nil
}

// expected tells the ends of connections that are nobody's business.
func expected(err error) bool {
	return err == io.EOF || errors.Is(err, net.ErrClosed) || errors.Is(err, errIdle) || errors.Is(err, errStopped)
}

func newConn(s *Server, nc net.Conn) *Conn {
	c := &Conn{net: nc, server: s, wake: make(chan struct{}, 1), gone: make(chan struct{})}
	c.room = sync.NewCond(&c.mu)
	c.frames = frames{
		conn: nc, budget: s.opts.Budget, max: s.opts.MaxFrame, idle: s.opts.Idle, body: 30 * time.Second,
		stop: c.gone, busy: c.busy, stopping: &c.stopping,
	}
	return c
}
