package listener

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Options say how a server treats its connections.
type Options struct {
	Budget *Budget
	// MaxFrame is the greatest request in bytes (socket.request.max.bytes).
	MaxFrame int
	// Idle is how long a connection may be silent (connections.max.idle.ms); 0
	// is for ever.
	Idle time.Duration
	// MaxConns and MaxConnsPerIP bound the connections (max.connections,
	// max.connections.per.ip); 0 is no bound. One above is closed at once.
	MaxConns, MaxConnsPerIP int
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
	Accepted, Refused, Requests, BytesOut atomic.Uint64
	Open                                  atomic.Int64
}

// Server serves the connections of its listeners.
type Server struct {
	opts  Options
	stats Stats

	mu struct {
		sync.Mutex
		conns     map[*Conn]struct{}
		perIP     map[string]int
		listeners []net.Listener
		stopped   bool
	}
	running sync.WaitGroup // Connections.
}

// NewServer returns a server without listeners.
func NewServer(opts Options) *Server {
	s := &Server{opts: opts}
	s.mu.conns = map[*Conn]struct{}{}
	s.mu.perIP = map[string]int{}
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

// admit starts a connection, or closes it where there are too many.
func (s *Server) admit(nc net.Conn) {
	s.stats.Accepted.Add(1)
	s.tune(nc)
	ip := host(nc.RemoteAddr())
	s.mu.Lock()
	tooMany := s.opts.MaxConns > 0 && len(s.mu.conns) >= s.opts.MaxConns ||
		s.opts.MaxConnsPerIP > 0 && s.mu.perIP[ip] >= s.opts.MaxConnsPerIP
	if tooMany || s.mu.stopped {
		s.mu.Unlock()
		s.stats.Refused.Add(1)
		nc.Close()
		return
	}
	c := newConn(s, nc)
	s.mu.conns[c] = struct{}{}
	s.mu.perIP[ip]++
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
		if s.mu.perIP[ip]--; s.mu.perIP[ip] == 0 {
			delete(s.mu.perIP, ip)
		}
		s.mu.Unlock()
	}()
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
	s.mu.stopped = true
	for _, l := range s.mu.listeners {
		l.Close()
	}
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

func host(a net.Addr) string {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.IP.String()
	}
	return a.String()
}
