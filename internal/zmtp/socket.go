package zmtp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ErrClosed is the answer of a socket that is closed.
var ErrClosed = errors.New("zmtp: the socket is closed")

// Kind is a socket type. Publishers send to who has subscribed; PUB and XPUB
// connect to, and accept, SUB and XSUB.
type Kind int

// The socket types. XPUB tells its owner what was subscribed to; an owner who does
// not Receive that stops its readers in the end. XSUB differs from SUB in name only.
const (
	Pub Kind = iota
	Sub
	XPub
	XSub
)

func (k Kind) String() string {
	switch k {
	case Pub:
		return "PUB"
	case Sub:
		return "SUB"
	case XPub:
		return "XPUB"
	case XSub:
		return "XSUB"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

func (k Kind) publishes() bool { return k == Pub || k == XPub }

// speaksTo reports whether a peer of that Socket-Type is the right company.
func (k Kind) speaksTo(socketType string) bool {
	if k.publishes() {
		return socketType == "SUB" || socketType == "XSUB"
	}
	return socketType == "PUB" || socketType == "XPUB"
}

// Options are what a socket is made with. The zero value of each has a default.
type Options struct {
	Kind Kind

	// SendHighWater is how many messages may wait for one peer, those that are
	// being written included (1000), SendHighWaterBytes how many bytes of them
	// (64 MiB; one message always fits). What comes then is dropped for that peer.
	SendHighWater      int
	SendHighWaterBytes int

	// ReceiveHighWater is how many messages wait for Receive (1000; one batch
	// always fits), ReceiveHighWaterBytes how many bytes of them (64 MiB). Then
	// reading stops, and TCP passes the pressure on.
	ReceiveHighWater      int
	ReceiveHighWaterBytes int

	MaxMessage int    // Bytes of all frames of a received message (64 MiB). More closes the connection.
	MaxPeers   int    // Accepted connections at a time (4096). Others are closed at once.
	Welcome    []byte // XPub: a message of one frame that every subscriber gets first, whatever it subscribes to.

	HandshakeTimeout time.Duration // 30 s.
	ReconnectMin     time.Duration // First pause before dialling again (100 ms). It doubles with each failure,
	ReconnectMax     time.Duration // up to this one (5 s). Chance adds up to half of it.
	Linger           time.Duration // How long Close and Disconnect let queues be sent (1 s; negative: not at all).
	Heartbeat        Heartbeat

	Curve *Curve // Nil: mechanism NULL, anybody may connect and read along.

	// Dial and Listen stand in for the network in tests.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Listen func(network, address string) (net.Listener, error)

	Log *slog.Logger // Nil: nothing is logged. What peers can provoke is logged at Debug.
}

// Heartbeat asks silent peers whether they are there (RFC 37, PING).
type Heartbeat struct {
	Interval time.Duration // Between two PINGs; 0: none are sent.
	Timeout  time.Duration // A peer that is silent for an interval and this is cut off (Interval).
	TTL      time.Duration // After what silence the peer should give up on us; 0: never. At most 6553.5 s.
}

const (
	defaultHighWater      = 1000
	defaultHighWaterBytes = 64 << 20
	defaultMaxMessage     = 64 << 20
	defaultMaxPeers       = 4096
	defaultHandshake      = 30 * time.Second
	defaultReconnectMin   = 100 * time.Millisecond
	defaultReconnectMax   = 5 * time.Second
	defaultLinger         = time.Second
	dialTimeout           = 10 * time.Second
)

func (o *Options) setDefaults() {
	or(&o.SendHighWater, defaultHighWater)
	or(&o.SendHighWaterBytes, defaultHighWaterBytes)
	or(&o.ReceiveHighWater, defaultHighWater)
	or(&o.ReceiveHighWaterBytes, defaultHighWaterBytes)
	or(&o.MaxMessage, defaultMaxMessage)
	or(&o.MaxPeers, defaultMaxPeers)
	or(&o.HandshakeTimeout, defaultHandshake)
	or(&o.ReconnectMin, defaultReconnectMin)
	or(&o.ReconnectMax, defaultReconnectMax)
	or(&o.Linger, defaultLinger)
	or(&o.Heartbeat.Timeout, o.Heartbeat.Interval)
	if o.Dial == nil {
		// An address that does not answer is tried anew before the kernel would.
		o.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	if o.Listen == nil {
		o.Listen = net.Listen
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

func or[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// Socket is one ZeroMQ socket. Its methods may be called by several goroutines.
type Socket struct {
	options Options
	log     *slog.Logger
	inbox   *inbox
	running sync.WaitGroup // Every goroutine of the socket.
	counts  counters

	mu            sync.Mutex
	closed        bool
	listeners     map[string]net.Listener
	connectors    map[string]*connector
	peers         map[*Peer]struct{} // All connections, those that still shake hands included.
	accepted      int                // How many of them were accepted.
	subscriptions trie[[]*Peer]      // Publishers: who wants what.
	wantsSize     int                // Bytes of subscriptions, of all peers.
	send          uint64             // Number of the message that is being sent; see Peer.sent.
	matched       []*Peer            // Who wants it.
	touched       []*Peer            // Whose queues are locked while it is sent.
	wanted        map[string]int     // Subscribers: how often each prefix was asked for.

	filter struct {
		sync.RWMutex
		prefixes trie[struct{}] // The keys of wanted.
	}
}

type counters struct {
	sent, received, dropped, filtered, malformed, refused atomic.Uint64
}

// Stats are counts since the socket was made.
type Stats struct {
	Sent      uint64 // Messages queued, once for each peer.
	Dropped   uint64 // Messages not queued because a peer's queue was full, once for each peer.
	Received  uint64 // Messages that passed the filter.
	Filtered  uint64 // Messages that nobody here subscribes to (any more).
	Malformed uint64 // Connections closed because their peer broke the protocol, or has none in common.
	Refused   uint64 // Connections closed because there were MaxPeers.
}

// New makes a socket that is neither bound nor connected. Options are not
// looked at again after it.
func New(options Options) *Socket {
	options.setDefaults()
	return &Socket{
		options:    options,
		log:        options.Log,
		inbox:      newInbox(options.ReceiveHighWater, options.ReceiveHighWaterBytes),
		listeners:  map[string]net.Listener{},
		connectors: map[string]*connector{},
		peers:      map[*Peer]struct{}{},
		wanted:     map[string]int{},
	}
}

// Stats returns what the socket has counted.
func (s *Socket) Stats() Stats {
	c := &s.counts
	return Stats{
		Sent: c.sent.Load(), Dropped: c.dropped.Load(), Received: c.received.Load(),
		Filtered: c.filtered.Load(), Malformed: c.malformed.Load(), Refused: c.refused.Load(),
	}
}

// Peers returns the connections that have shaken hands, in no order.
func (s *Socket) Peers() []*Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ready []*Peer
	for p := range s.peers {
		if p.ready {
			ready = append(ready, p)
		}
	}
	return ready
}

// Receive waits for the next batch: messages that were subscribed to, or, on an
// XPUB, subscriptions. The batch belongs to the caller; see [Batch]. The error is
// [ErrClosed] or the context's cause. A PUB receives nothing.
func (s *Socket) Receive(ctx context.Context) (*Batch, error) { return s.inbox.get(ctx) }

// Flush waits until everything that was sent so far, or while it waits, is
// written to the kernel or lost with its connection. The error is the context's
// cause.
func (s *Socket) Flush(ctx context.Context) error {
	for _, p := range s.Peers() {
		empty := func() bool { return p.queue.bytes == 0 }
		if err := p.queue.await(ctx, empty); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the socket: nothing is accepted, dialled or received any more.
// Queues are sent for as long as Linger and the context allow, and publishers wait
// that long for their peers to have read everything. An error tells what was lost.
// All goroutines have ended when it returns.
func (s *Socket) Close(ctx context.Context) error {
	s.shut()
	s.inbox.close()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	linger := time.NewTimer(max(s.options.Linger, 0))
	defer linger.Stop()
	select {
	case <-done:
		return nil
	case <-linger.C:
	case <-ctx.Done():
	}
	unsent := s.severAll()
	<-done
	if unsent > 0 {
		return fmt.Errorf("zmtp: close: %d messages were not sent", unsent)
	}
	return nil
}

// shut closes what makes new connections, and lets those that are there end.
func (s *Socket) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, l := range s.listeners {
		_ = l.Close()
	}
	for _, c := range s.connectors {
		c.cancel()
	}
	for p := range s.peers {
		p.finishLocked()
	}
}

// severAll ends all connections and returns how many messages waited for them.
func (s *Socket) severAll() (unsent int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.peers {
		unsent += p.queue.queued()
		p.sever()
	}
	return unsent
}
