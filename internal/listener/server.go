package listener

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/histogram"
	"github.com/barnabas-log/barnabas/internal/quota"
)

// Options say how a server treats its connections.
type Options struct {
	Budget *Budget
	// MaxFrame is the greatest request in bytes (socket.request.max.bytes).
	MaxFrame int
	// Idle is how long a connection may be silent (connections.max.idle.ms); 0
	// is for ever.
	Idle time.Duration
	// Name is that of the listener, in the gate's limits.
	Name string
	// Gate lets connections in; nil lets in everybody.
	Gate *Gate
	// Open makes the session of a new connection.
	Open func(*Conn) Session
	// Dropped is told of connections that ended by an error.
	Dropped func(remote net.Addr, err error)
	// SendBuffer and ReceiveBuffer are socket buffer sizes in bytes; 0 or less
	// leaves the system's.
	SendBuffer, ReceiveBuffer int
}

// Stats counts what a server has seen.
type Stats struct {
	Accepted, Requests, BytesOut atomic.Uint64
	// Refused counts connections that were turned away, Throttled those of them
	// that came too fast.
	Refused, Throttled atomic.Uint64
	// WaitNanos is how long accepting waited for the gate.
	WaitNanos atomic.Uint64
	// Sends is how long answers took to be written: as long as the client takes to
	// make room for them.
	Sends histogram.Times
	// Mutes is how often a connection was muted; Muted is how many are now.
	Mutes atomic.Uint64
	Muted atomic.Int64
	Open  atomic.Int64
}

// Server serves the connections of its listeners.
type Server struct {
	opts  Options
	stats Stats

	mu struct {
		sync.Mutex
		conns     map[*Conn]struct{}
		delayed   map[net.Conn]*time.Timer // Turned away, and not told yet.
		listeners []net.Listener
		stopped   bool
	}
	halt    chan struct{}  // Closed by Stop.
	running sync.WaitGroup // Connections.
	// descriptors is the first that is not for connections.
	descriptors uintptr
}

// errDescriptors says that a connection was turned away because the descriptors
// that are left belong to the logs.
var errDescriptors = errors.New("listener: too many open files to take connections")

// NewServer returns a server without listeners.
func NewServer(opts Options) *Server {
	if opts.Gate == nil {
		opts.Gate = NewGate(quota.Window{Samples: 1, Length: time.Second}, NoLimits())
	}
	s := &Server{opts: opts, halt: make(chan struct{}), descriptors: descriptorLimit()}
	s.mu.conns, s.mu.delayed = map[*Conn]struct{}{}, map[net.Conn]*time.Timer{}
	return s
}

// Stats returns the server's counters.
func (s *Server) Stats() *Stats { return &s.stats }

// Run accepts connections until l is closed or the server is stopped.
func (s *Server) Run(l net.Listener) error {
	s.mu.Lock()
	if s.mu.stopped {
		s.mu.Unlock()
		l.Close()
		return nil
	}
	s.mu.listeners = append(s.mu.listeners, l)
	s.mu.Unlock()
	for delay := time.Duration(0); ; {
		nc, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil { // Out of descriptors, most likely: others may close some.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.opts.Dropped(l.Addr(), err)
			time.Sleep(delay)
			continue
		}
		delay = 0
		s.admit(nc)
	}
}

// admit starts a connection, once the gate lets it in.
func (s *Server) admit(nc net.Conn) {
	s.stats.Accepted.Add(1)
	if descriptorOf(nc) >= s.descriptors {
		s.opts.Dropped(nc.RemoteAddr(), errDescriptors)
		s.refuse(nc, 0)
		return
	}
	s.tune(nc)
	from := addressOf(nc.RemoteAddr())
	began := time.Now()
	v := s.opts.Gate.enter(s.opts.Name, from, s.halt)
	s.stats.WaitNanos.Add(uint64(time.Since(began)))
	if !v.admitted {
		s.refuse(nc, v.wait)
		return
	}
	s.mu.Lock()
	if s.mu.stopped {
		s.mu.Unlock()
		s.opts.Gate.leave(s.opts.Name, from)
		s.refuse(nc, 0)
		return
	}
	c := newConn(s, nc)
	s.mu.conns[c] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	s.stats.Open.Add(1)
	c.session = s.opts.Open(c)
	go func() {
		defer s.running.Done()
		c.serve()
		s.stats.Open.Add(-1)
		s.mu.Lock()
		delete(s.mu.conns, c)
		s.mu.Unlock()
		s.opts.Gate.leave(s.opts.Name, from)
	}()
}

// maxDelayed is how many connections are kept waiting for their end, for a
// second at most. More are closed at once: somebody floods us.
const maxDelayed = 1000

// refuse closes a connection that is not let in, after wait.
func (s *Server) refuse(nc net.Conn, wait time.Duration) {
	s.stats.Refused.Add(1)
	if wait > 0 {
		s.stats.Throttled.Add(1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if wait <= 0 || s.mu.stopped || len(s.mu.delayed) >= maxDelayed {
		nc.Close()
		return
	}
	s.mu.delayed[nc] = time.AfterFunc(wait, func() {
		nc.Close()
		s.mu.Lock()
		delete(s.mu.delayed, nc)
		s.mu.Unlock()
	})
}

// Shed closes up to n connections, idle ones first, and returns how many: what
// Kafka does when max.connections is lowered.
func (s *Server) Shed(n int) int {
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.mu.conns))
	s.mu.Unlock()
	var idle, busy []*Conn
	for _, c := range conns {
		if c.busy() {
			busy = append(busy, c)
		} else {
			idle = append(idle, c)
		}
	}
	n = min(n, len(conns))
	for _, c := range append(idle, busy...)[:n] {
		c.close(errShed)
	}
	return n
}

func (s *Server) tune(nc net.Conn) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	if s.opts.SendBuffer > 0 {
		_ = tcp.SetWriteBuffer(s.opts.SendBuffer)
	}
	if s.opts.ReceiveBuffer > 0 {
		_ = tcp.SetReadBuffer(s.opts.ReceiveBuffer)
	}
}

// Stop closes the listeners, gives connections until ctx ends to send what
// they owe, then closes them, and returns when all have ended.
func (s *Server) Stop(ctx context.Context) {
	s.mu.Lock()
	if !s.mu.stopped {
		close(s.halt)
	}
	s.mu.stopped = true
	for _, l := range s.mu.listeners {
		l.Close()
	}
	for nc, t := range s.mu.delayed {
		t.Stop()
		nc.Close()
	}
	clear(s.mu.delayed)
	conns := make([]*Conn, 0, len(s.mu.conns))
	for c := range s.mu.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		// The reader wakes with a deadline error and ends; busy connections go
		// on until their answers are out.
		c.stopReading()
	}
	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	for _, c := range conns {
		c.close(errStopped)
	}
	<-done
}
