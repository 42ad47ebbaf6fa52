package fabric

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A world of nodes that publish and subscribe as ZeroMQ does: a lane for each
// connection keeps its order, loses what is too much, and loses all when it
// breaks. Towers tell nodes of each other, when there is one.

type world struct {
	tally
	t    testing.TB
	seed uint64
	rng  *rand.Rand
	now  time.Time

	nodes []*node  // Those alive.
	free  []string // Endpoints that nodes left, and others may come to.
	lanes []*lane
	tower bool
	// quiet says that no more disasters happen.
	quiet  bool
	lives  int // To name nodes.
	room   int // Of a lane, in messages.
	frames []byte

	stores    []*store
	producers []*producer
	consumers []*consumer
	truth     map[Partition][]string // What was published.
	trimmed   map[Partition]uint64   // How far some store has deleted it, ever.
	topics    []string
	minAcks   int
	retention bool
	// loss is the chance of a message to be lost, in thousandths.
	loss int
}

// node is what all roles have in common.
type node struct {
	w        *world
	address  string
	endpoint string
	peers    *Peers
	lanes    map[string]*lane // Where it subscribes, by endpoint.
	stalled  bool             // It does not read at present.
	prefixes func() [][]byte
	// subscribed is nil for those who do not see subscriptions.
	subscribed func(prefix []byte)
	handle     func(m *Message, content []byte, from string)
	tick       func()
	deadline   func() time.Time
	gone       func(address string)
}

// lane is a connection: to subscribes at an endpoint, from publishes there.
type lane struct {
	to       *node
	endpoint string
	peer     string // Who was there according to the beacon.
	from     *node  // Nil while there is no connection.
	letters  []letter
}

type letter struct{ frame, content []byte }

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d: %s", w.seed, fmt.Sprintf(format, args...))
}

// disaster is true one time in n, as long as disasters happen.
func (w *world) disaster(n int) bool { return !w.quiet && w.rng.IntN(n) == 0 }

func (w *world) newNode(kind, address string) *node {
	w.lives++
	n := &node{w: w, address: address, endpoint: fmt.Sprintf("tcp://%s-%d:1", kind, w.lives), lanes: map[string]*lane{}}
	if len(w.free) > 0 && w.rng.IntN(2) == 0 {
		at := w.rng.IntN(len(w.free))
		n.endpoint = w.free[at]
		w.free = slices.Delete(w.free, at, at+1)
		w.reused++
	}
	n.peers = NewPeers(w.now, PeersOptions{Address: n.address})
	w.nodes = append(w.nodes, n)
	return n
}

// kill ends a node without a word.
func (w *world) kill(n *node) {
	w.nodes = slices.DeleteFunc(w.nodes, func(o *node) bool { return o == n })
	w.free = append(w.free, n.endpoint)
	w.lanes = slices.DeleteFunc(w.lanes, func(l *lane) bool { return l.to == n })
	for _, l := range w.lanes {
		if l.from == n {
			l.from, l.letters = nil, nil
		}
	}
}

func (w *world) at(endpoint string) *node {
	for _, n := range w.nodes {
		if n.endpoint == endpoint {
			return n
		}
	}
	return nil
}

// publish sends a message to all who subscribed.
func (n *node) publish(sends []Send) {
	w := n.w
	for i := range sends {
		w.frames = Append(w.frames[:0], &sends[i].Message)
		frame := bytes.Clone(w.frames)
		for _, l := range w.lanes {
			if l.from == n && l.to.wants(frame) {
				w.post(l, letter{frame, sends[i].Content})
			}
		}
	}
}

func (w *world) post(l *lane, it letter) {
	switch {
	case w.quiet:
	case len(l.letters) >= w.room:
		w.dropped++
		return
	case w.rng.IntN(1000) < w.loss:
		w.lost++
		return
	case w.rng.IntN(100) == 0:
		w.doubled++
		l.letters = append(l.letters, it)
	}
	l.letters = append(l.letters, it)
}

func (n *node) wants(frame []byte) bool {
	return slices.ContainsFunc(n.prefixes(), func(p []byte) bool { return bytes.HasPrefix(frame, p) })
}

// connect makes a connection if somebody is there.
func (w *world) connect(l *lane) {
	if l.from = w.at(l.endpoint); l.from == nil {
		return
	}
	for _, prefix := range l.to.prefixes() {
		l.from.sees(prefix)
	}
}

func (n *node) sees(prefix []byte) {
	if n.subscribed != nil && !n.w.disaster(30) {
		n.subscribed(prefix)
	}
}

// deliver hands over the oldest message of a lane.
func (w *world) deliver(l *lane) {
	it := l.letters[0]
	l.letters = l.letters[1:]
	var m Message
	frames := [][]byte{it.frame, it.content}
	if !Kind(it.frame[0]).HasContent() {
		frames = frames[:1]
	}
	content, err := m.ParseFrames(frames)
	if err != nil {
		w.fatalf("%x: %v", it.frame, err)
	}
	if m.Kind == Fetch {
		w.fetches++
	}
	if *trace {
		w.t.Logf("%8.3f %s <- %s: %s", w.now.Sub(morning).Seconds(), l.to.address, l.peer, show(&Send{Message: m, Content: content}))
	}
	l.to.handle(&m, content, l.peer)
}

// beat does what is due at a node, and obeys its peers.
func (n *node) beat() {
	n.peers.Tick(n.w.now)
	n.obeyPeers()
	n.tick()
}

func (n *node) obeyPeers() {
	w := n.w
	out := n.peers.Drain()
	gone, come, renamed, beacon := slices.Clone(out.Disconnect), slices.Clone(out.Connect), slices.Clone(out.Renamed), out.Beacon
	for _, p := range gone {
		l := n.lanes[p.Endpoint]
		delete(n.lanes, p.Endpoint)
		w.lanes = slices.DeleteFunc(w.lanes, func(o *lane) bool { return o == l })
		if n.gone != nil {
			n.gone(p.Address)
		}
		w.disconnects++
	}
	for _, p := range come {
		l := &lane{to: n, endpoint: p.Endpoint, peer: p.Address}
		n.lanes[p.Endpoint] = l
		w.lanes = append(w.lanes, l)
	}
	for _, p := range renamed {
		n.lanes[p.Endpoint].peer = p.Address
	}
	if beacon && w.tower {
		w.tell(Peer{Address: n.address, Endpoint: n.endpoint})
	}
}

// tell lets the tower tell all nodes of one.
func (w *world) tell(p Peer) {
	for _, n := range slices.Clone(w.nodes) {
		if w.at(n.endpoint) == n && !w.disaster(10) {
			n.peers.Handle(w.now, p)
			n.obeyPeers()
		}
	}
}

// breakLane ends a connection, and what is on its way with it.
func (w *world) breakLane() {
	if len(w.lanes) > 0 {
		l := w.lanes[w.rng.IntN(len(w.lanes))]
		l.from, l.letters = nil, nil
		w.broken++
	}
}

// step lets one thing happen.
func (w *world) step() {
	switch w.rng.IntN(10) {
	case 0, 1, 2, 3, 4, 5:
		w.someLane()
	case 6:
		w.pass(time.Duration(w.rng.IntN(300)) * time.Millisecond)
	case 7:
		w.someProducer()
	case 8:
		w.stores[w.rng.IntN(len(w.stores))].flush()
	default:
		w.someDisaster()
	}
}

// someLane moves a few messages of a lane, or connects it.
func (w *world) someLane() {
	first := w.rng.IntN(len(w.lanes) + 1)
	for i := range w.lanes {
		l := w.lanes[(first+i)%len(w.lanes)]
		if l.from == nil && w.at(l.endpoint) != nil {
			w.connect(l)
			return
		}
		if len(l.letters) > 0 && !l.to.stalled {
			for range min(1+w.rng.IntN(20), len(l.letters)) {
				w.deliver(l)
			}
			return
		}
	}
}

func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	for _, n := range slices.Clone(w.nodes) {
		n.beat()
	}
}

// rest lets everything arrive, in quiet, for so long.
func (w *world) rest(d time.Duration) {
	for until := w.now.Add(d); w.now.Before(until); {
		for w.settle() {
		}
		next := until
		for _, n := range w.nodes {
			next = sooner(next, sooner(n.peers.Deadline(), n.deadline()))
		}
		w.pass(max(next.Sub(w.now), 0))
	}
}

// settle moves all messages that are on their way, and reports whether there
// were any.
func (w *world) settle() (moved bool) {
	for _, l := range slices.Clone(w.lanes) {
		if l.from == nil {
			w.connect(l)
		}
		for len(l.letters) > 0 {
			moved = true
			w.deliver(l)
		}
	}
	for _, s := range w.stores {
		if s.flush() {
			moved = true
		}
	}
	return moved
}
