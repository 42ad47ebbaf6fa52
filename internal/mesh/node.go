package mesh

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/zmtp"
)

// Inlet is a socket that hears what all peers publish.
type Inlet struct {
	Prefixes  [][]byte // What it subscribes to from the start.
	HighWater int      // Messages that wait for Receive; then reading stops.
	// Receive gets what came. from is the address of the node that said it, by its
	// beacon. The batch is the receiver's, who releases it.
	Receive func(b *zmtp.Batch, from string)
}

// Options say how a node behaves.
type Options struct {
	Address   string    // Who it is: see NewAddress.
	Publisher zmtp.Kind // Pub, or XPub for those who want to know of subscriptions.
	Inlets    []Inlet

	// Bind is where the publisher listens: tcp://*:* is any free port. Host is what
	// the others are told; empty: towers know better.
	Bind, Host string
	// ToTowers and FromTowers are where towers hear and where they speak.
	ToTowers, FromTowers []string
	Interval, Timeout    time.Duration // Of beacons.
	HighWater            int           // Messages that wait for one peer.
	HighWaterBytes       int           // And bytes; 0 is the socket's default.
	// Linger is how long what was published may take at the end.
	Linger   time.Duration
	Security *Security
	// Beside, if not empty, is another node of the same owner: the two need not
	// hear each other.
	Beside string

	// Subscribed, of an XPub, is told of each subscription, SubscribedBy of the
	// connection, too. Left is told of peers that are gone. Each may be nil.
	Subscribed   func(prefix []byte)
	SubscribedBy func(prefix []byte, by *zmtp.Peer)
	Left         func(fabric.Peer)

	Log *slog.Logger
}

// NewAddress makes an address as C's nodes do: 32 upper-case hexadecimal digits.
func NewAddress() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // It never fails.
	return strings.ToUpper(hex.EncodeToString(b[:]))
}

// Node is one node of a mesh.
type Node struct {
	o         Options
	endpoint  string
	publisher *zmtp.Socket
	inlets    []*zmtp.Socket
	towers    struct{ to, from *zmtp.Socket }
	beacon    [][]byte
	peers     struct {
		sync.RWMutex
		*fabric.Peers
		at map[string]string // Addresses by endpoint.
	}
	send struct {
		sync.Mutex
		frames   []byte
		messages []zmtp.Message
		pairs    [][]byte
	}
	malformed atomic.Uint64
	cancel    context.CancelFunc
	running   sync.WaitGroup
}

// Join makes a node and lets it run until Close.
func Join(o Options) (*Node, error) {
	n := &Node{o: o}
	n.publisher = zmtp.New(o.Security.Listening(zmtp.Options{Kind: o.Publisher, SendHighWater: o.HighWater, SendHighWaterBytes: o.HighWaterBytes, Linger: o.Linger, Log: o.Log}))
	endpoint, err := n.publisher.Bind(o.Bind)
	if err != nil {
		return nil, errors.Join(err, n.publisher.Close(context.Background()))
	}
	n.endpoint = endpoint
	port, err := portOf(endpoint)
	if err != nil {
		return nil, errors.Join(err, n.publisher.Close(context.Background()))
	}
	n.beacon = fabric.Beacon{Address: o.Address, Host: o.Host, Port: port}.Frames()
	n.peers.at = map[string]string{}
	n.peers.Peers = fabric.NewPeers(time.Now(), fabric.PeersOptions{Address: o.Address, Interval: o.Interval, Timeout: o.Timeout})
	if err := n.connect(); err != nil {
		return nil, errors.Join(err, n.closeSockets(context.Background()))
	}
	n.run()
	return n, nil
}

func portOf(endpoint string) (uint16, error) {
	port, err := strconv.ParseUint(endpoint[strings.LastIndexByte(endpoint, ':')+1:], 10, 16)
	if err != nil {
		return 0, fmt.Errorf("mesh: %s has no port", endpoint)
	}
	return uint16(port), nil
}

// connect makes the sockets that dial.
func (n *Node) connect() error {
	for _, in := range n.o.Inlets {
		s := zmtp.New(n.o.Security.Dialling(zmtp.Options{Kind: zmtp.Sub, ReceiveHighWater: in.HighWater, Log: n.o.Log}))
		n.inlets = append(n.inlets, s)
		for _, prefix := range in.Prefixes {
			if err := s.Subscribe(prefix); err != nil {
				return err
			}
		}
	}
	n.towers.to = zmtp.New(n.o.Security.Dialling(zmtp.Options{Kind: zmtp.XPub, Log: n.o.Log}))
	n.towers.from = zmtp.New(n.o.Security.Dialling(zmtp.Options{Kind: zmtp.Sub, Log: n.o.Log}))
	for _, prefix := range fabric.BeaconPrefixes() {
		if err := n.towers.from.Subscribe(prefix); err != nil {
			return err
		}
	}
	return errors.Join(connectAll(n.towers.to, n.o.ToTowers), connectAll(n.towers.from, n.o.FromTowers))
}

func connectAll(s *zmtp.Socket, endpoints []string) error {
	var errs []error
	for _, e := range endpoints {
		errs = append(errs, s.Connect(e))
	}
	return errors.Join(errs...)
}

func (n *Node) run() {
	var ctx context.Context
	ctx, n.cancel = context.WithCancel(context.Background())
	for i, s := range n.inlets {
		n.running.Go(func() { n.receive(ctx, s, n.o.Inlets[i].Receive) })
	}
	if n.o.Publisher == zmtp.XPub {
		n.running.Go(func() { n.hearSubscriptions(ctx) })
	}
	heard := make(chan fabric.Peer, 64)
	listening, welcome := make(chan struct{}, 1), make(chan struct{})
	n.running.Go(func() { n.hearTowers(ctx, heard, welcome) })
	n.running.Go(func() { n.awaitTowers(ctx, listening) })
	n.running.Go(func() { n.meet(ctx, heard, listening, welcome) })
}

func (n *Node) receive(ctx context.Context, s *zmtp.Socket, to func(*zmtp.Batch, string)) {
	for {
		b, err := s.Receive(ctx)
		if err != nil {
			return
		}
		to(b, n.addressAt(b.From.Endpoint()))
	}
}

func (n *Node) hearSubscriptions(ctx context.Context) {
	for {
		b, err := n.publisher.Receive(ctx)
		if err != nil {
			return
		}
		for _, s := range b.Subscriptions {
			if s.Subscribe && n.o.Subscribed != nil {
				n.o.Subscribed(s.Prefix)
			}
			if s.Subscribe && n.o.SubscribedBy != nil {
				n.o.SubscribedBy(s.Prefix, b.From)
			}
		}
		b.Release()
	}
}

// Endpoint is where the publisher listens.
func (n *Node) Endpoint() string { return n.endpoint }

// Address is who the node is.
func (n *Node) Address() string { return n.o.Address }

// Subscribe makes an inlet hear what begins with prefix; it counts, as
// Unsubscribe does.
func (n *Node) Subscribe(inlet int, prefix []byte) error { return n.inlets[inlet].Subscribe(prefix) }

// Unsubscribe takes a Subscribe back.
func (n *Node) Unsubscribe(inlet int, prefix []byte) error {
	return n.inlets[inlet].Unsubscribe(prefix)
}

// Publish sends messages to whoever subscribes to them, and returns how often
// one was dropped because a queue was full. It never waits. Contents must not
// change afterwards.
func (n *Node) Publish(sends []fabric.Send) (dropped int) {
	if len(sends) == 0 {
		return 0
	}
	n.send.Lock()
	defer n.send.Unlock()
	for some := range slices.Chunk(sends, encodedAtOnce) {
		_, d := n.publisher.SendBatch(n.encodeLocked(some))
		dropped += d
	}
	n.forgetLocked()
	return dropped
}

// PublishWait sends messages as Publish does, but waits where one would be
// dropped, until ctx ends. It returns how many were sent.
func (n *Node) PublishWait(ctx context.Context, sends []fabric.Send) (done int, err error) {
	if len(sends) == 0 {
		return 0, nil
	}
	n.send.Lock()
	defer n.send.Unlock()
	defer n.forgetLocked()
	for some := range slices.Chunk(sends, encodedAtOnce) {
		sent, err := n.publisher.SendWait(ctx, n.encodeLocked(some))
		if done += sent; err != nil {
			return done, err
		}
	}
	return done, nil
}

// encodedAtOnce is how many messages are encoded at a time: what is written is
// still in the processor's cache when it is copied, and its memory is kept.
const encodedAtOnce = 512

// encodeLocked writes first frames one behind the other, for they are copied
// again; a long one gets memory of its own.
func (n *Node) encodeLocked(sends []fabric.Send) []zmtp.Message {
	x := &n.send
	x.frames, x.messages, x.pairs = x.frames[:0], x.messages[:0], x.pairs[:0]
	for i := range sends {
		begin := len(x.frames)
		x.frames = fabric.Append(x.frames, &sends[i].Message)
		first := x.frames[begin:len(x.frames):len(x.frames)]
		if len(first) > zmtp.MaxCopied {
			first = append([]byte(nil), first...)
		}
		at := len(x.pairs)
		if x.pairs = append(x.pairs, first); sends[i].Kind.HasContent() {
			x.pairs = append(x.pairs, sends[i].Content)
		}
		x.messages = append(x.messages, x.pairs[at:len(x.pairs):len(x.pairs)])
	}
	return x.messages
}

// scratch is how much memory is kept between calls.
const scratch = 256 << 10

// forgetLocked lets go of contents, and of memory that is seldom needed.
func (n *Node) forgetLocked() {
	x := &n.send
	clear(x.pairs)
	clear(x.messages)
	if cap(x.frames) > scratch {
		x.frames, x.messages, x.pairs = nil, nil, nil
	}
}

// Listeners are the connections of those who hear what the node publishes.
func (n *Node) Listeners() []*zmtp.Peer { return n.publisher.Peers() }

// Malformed counts a message that was not understood.
func (n *Node) Malformed() { n.malformed.Add(1) }

// Stats are what a node has counted.
type Stats struct {
	Peers          int
	Towers         int    // That speak to the node now.
	Sent, Received uint64 // Messages.
	Dropped        uint64 // Messages for peers whose queues were full.
	Malformed      uint64 // Messages that were not understood.
	Ignored        uint64 // Beacons of peers that there was no room for.
}

// Stats returns what the node has counted.
func (n *Node) Stats() Stats {
	p := n.publisher.Stats()
	s := Stats{Sent: p.Sent, Dropped: p.Dropped, Malformed: n.malformed.Load(), Towers: len(n.towers.from.Peers())}
	for _, in := range n.inlets {
		x := in.Stats()
		s.Received += x.Received
		s.Malformed += x.Malformed
	}
	n.peers.RLock()
	defer n.peers.RUnlock()
	s.Peers, s.Ignored = len(n.peers.at), n.peers.Ignored()
	return s
}

// Close leaves the mesh. What was published is sent for as long as Linger and
// ctx allow; an error tells that something was lost.
func (n *Node) Close(ctx context.Context) error {
	err := n.closeSockets(ctx)
	n.cancel()
	n.running.Wait()
	return err
}

func (n *Node) closeSockets(ctx context.Context) error {
	err := n.publisher.Close(ctx)
	for _, s := range append(n.inlets, n.towers.to, n.towers.from) {
		if s != nil {
			err = errors.Join(err, s.Close(ctx))
		}
	}
	return err
}

// NextPort is where to bind a second node of the same owner: if bind names a
// port, the next one.
func NextPort(bind string) string {
	at := strings.LastIndexByte(bind, ':')
	port, err := strconv.ParseUint(bind[at+1:], 10, 16)
	if err != nil || port == 0 || port == 65535 {
		return bind
	}
	return bind[:at+1] + strconv.FormatUint(port+1, 10)
}
