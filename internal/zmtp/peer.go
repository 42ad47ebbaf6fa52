package zmtp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// Peer is one connection. Another connection, also one of the same endpoint, is
// another Peer.
type Peer struct {
	socket   *Socket
	endpoint string
	remote   net.Addr
	conn     net.Conn
	queue    *queue
	cut      atomic.Bool // Nothing more of it is delivered.

	// Of the reader's goroutine.
	in      reader
	minor   byte // Of the peer's ZMTP version 3.
	cipher  cipher
	batch   *Batch // Nil if nothing has come since the last one.
	usual   int    // Messages of the last batch.
	size    int    // Of the message that is not yet complete.
	pending bool   // The message goes on.

	key *Key // Set before ready.

	// Guarded by Socket.mu.
	ready     bool           // The handshake is over.
	sent      uint64         // Number of the last message that found this peer.
	touched   bool           // Its queue is locked; see Socket.touched.
	wants     map[string]int // How often it subscribes to each prefix.
	wantsSize int
	deadline  *time.Timer // Ends it after Disconnect.
}

// Endpoint is what Connect was called with, or empty for an accepted connection.
func (p *Peer) Endpoint() string { return p.endpoint }

// Remote is the address at the other end.
func (p *Peer) Remote() net.Addr { return p.remote }

// Key is the peer's public key that CURVE has proved, and nil without CURVE.
func (p *Peer) Key() *Key { return p.key }

// Queued is how many messages wait for this peer, or are being written.
func (p *Peer) Queued() int { return p.queue.queued() }

func (p *Peer) String() string {
	if p.endpoint != "" {
		return p.endpoint
	}
	return p.remote.String()
}

// serve runs a connection until it ends, and reports whether the handshake
// succeeded.
func (s *Socket) serve(conn net.Conn, endpoint string) bool {
	p := s.admit(conn, endpoint)
	if p == nil {
		_ = conn.Close()
		return false
	}
	p.greet()
	written := make(chan struct{})
	go func() {
		defer close(written)
		p.write()
	}()
	err := p.read()
	_ = conn.Close()
	p.queue.abort()
	<-written
	ready := s.leave(p)
	s.log.Debug("connection ended", "peer", p.String(), "err", err)
	if errors.Is(err, ErrMalformed) || errors.Is(err, errNotAllowed) {
		s.counts.malformed.Add(1)
	}
	return ready
}

// admit makes a peer of a connection, nil if there is no place for it.
func (s *Socket) admit(conn net.Conn, endpoint string) *Peer {
	p := &Peer{
		socket: s, endpoint: endpoint, remote: conn.RemoteAddr(), conn: conn,
		queue: newQueue(s.options.SendHighWater, s.options.SendHighWaterBytes),
		in:    reader{conn: conn},
		wants: map[string]int{},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || endpoint != "" && s.connectors[endpoint] == nil {
		return nil
	}
	if endpoint == "" {
		if s.accepted == s.options.MaxPeers {
			s.counts.refused.Add(1)
			return nil
		}
		s.accepted++
	}
	s.peers[p] = struct{}{}
	return p
}

// leave forgets a peer and what it subscribed to.
func (s *Socket) leave(p *Peer) (ready bool) {
	s.mu.Lock()
	delete(s.peers, p)
	if p.endpoint == "" {
		s.accepted--
	}
	if p.deadline != nil {
		p.deadline.Stop()
	}
	ready = p.ready
	s.mu.Unlock()
	s.forget(p)
	return ready
}

// write is the writer's goroutine.
func (p *Peer) write() {
	if err := p.queue.write(p.conn); err != nil {
		p.queue.abort()
		_ = p.conn.Close()
		return
	}
	// All is written. The peer is told so, and reads on to that place; its own end
	// of the connection ends the reader.
	if half, ok := p.conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		_ = p.conn.Close()
	}
}

// finishLocked ends a connection: a publisher's when its queue is sent.
// Socket.mu is held.
func (p *Peer) finishLocked() {
	if p.ready && p.socket.options.Kind.publishes() {
		p.queue.end()
	} else {
		p.sever()
	}
}

// sever ends a connection at once.
func (p *Peer) sever() {
	p.cut.Store(true)
	_ = p.conn.Close()
	p.queue.abort()
	p.socket.inbox.wake()
}

// read is the reader's goroutine.
func (p *Peer) read() error {
	if err := p.shakeHands(); err != nil {
		p.refuse(err)
		return fmt.Errorf("handshake: %w", err)
	}
	if err := p.socket.attach(p); err != nil {
		return err
	}
	o := &p.socket.options
	if o.Heartbeat.Interval > 0 {
		p.in.idle = o.Heartbeat.Interval + o.Heartbeat.Timeout
		stop := p.startPings()
		defer stop()
	}
	p.in.before = p.deliver
	p.in.limit = o.MaxMessage
	if o.Kind.publishes() {
		p.in.limit = maxRequest
	}
	if p.cipher != nil {
		p.in.limit += p.cipher.sealedSize(0)
	}
	for {
		if err := p.readFrame(); err != nil {
			p.deliver()
			return err
		}
	}
}

func (p *Peer) readFrame() error {
	f, err := p.in.next()
	if err != nil {
		return err
	}
	if p.cipher != nil {
		if f, err = p.cipher.open(f.body); err != nil {
			return err
		}
	}
	switch {
	case f.command():
		return p.handleCommand(f.body)
	case p.socket.options.Kind.publishes():
		return p.handleRequest(f)
	default:
		return p.handleMessage(f)
	}
}

func (p *Peer) handleCommand(body []byte) error {
	name, rest, err := parseCommand(body)
	if err != nil {
		return err
	}
	switch name {
	case commandSubscribe, commandCancel:
		if p.socket.options.Kind.publishes() {
			return p.subscribe(rest, name == commandSubscribe)
		}
	case commandPing:
		return p.pong(rest)
	case commandError:
		return peerError(rest)
	}
	return nil // PONG, and what we do not know.
}

// pong answers a PING, of which rest follows the name: a time to live in tenths
// of a second, after which we are to give up on a silent peer, and a context.
func (p *Peer) pong(rest []byte) error {
	if len(rest) < 2 {
		return fmt.Errorf("%w: a PING of %d bytes", ErrMalformed, len(rest))
	}
	ttl := time.Duration(binary.BigEndian.Uint16(rest)) * (time.Second / 10)
	if ttl > 0 && (p.in.idle == 0 || ttl < p.in.idle) {
		p.in.idle = ttl
	}
	context := rest[2:min(len(rest), 2+maxPingContext)]
	p.queue.lifeSign(appendCommand(nil, commandPong, context))
	return nil
}

// startPings sends a PING in each interval until stop is called.
func (p *Peer) startPings() (stop func()) {
	h := p.socket.options.Heartbeat
	tenths := min(h.TTL/(time.Second/10), 1<<16-1)
	ping := appendCommand(nil, commandPing, binary.BigEndian.AppendUint16(nil, uint16(tenths)))
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticks := time.NewTicker(h.Interval)
		defer ticks.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticks.C:
				p.queue.lifeSign(ping)
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}
