package fabric

import (
	"slices"
	"strings"
	"time"
)

// PeersOptions say how [Peers] behave. Zero values mean the defaults.
type PeersOptions struct {
	Address  string        // This node's.
	Interval time.Duration // Between its beacons: 1 s.
	Timeout  time.Duration // From a peer's last beacon to its end: 4 s.
	// MaxPeers bounds how many are connected: 4096. Further ones are ignored and
	// counted.
	MaxPeers int
}

// PeersEffects is what is to be done.
type PeersEffects struct {
	// Beacon says that this node's beacon is to be sent.
	Beacon bool
	// Connect and Disconnect are for all sockets that subscribe.
	Connect, Disconnect []Peer
	// Renamed are connected peers at whose endpoint another node is now: sockets
	// connect again by themselves.
	Renamed []Peer
}

// Peers are the nodes that beacons tell of. They are known by their endpoints,
// as in C: a node that comes back at the same one within the timeout was never
// gone.
//
//	           beacon: connect             no beacon for Timeout: disconnect
//	(unknown) ─────────────────▶ connected ───────────────────────────────▶ (unknown)
//	                              │  ▲
//	                              └──┘ beacon
type Peers struct {
	o        PeersOptions
	known    map[string]*peerState // By endpoint.
	beaconAt time.Time
	sweepAt  time.Time
	ignored  uint64
	out      PeersEffects
}

type peerState struct {
	address string
	expires time.Time
}

// sweepInterval is how often expired peers are looked for.
const sweepInterval = time.Second

// NewPeers returns the peers of a node that is about to send its first beacon.
func NewPeers(now time.Time, o PeersOptions) *Peers {
	o.Interval = orSpan(o.Interval, time.Second)
	o.Timeout = orSpan(o.Timeout, 4*time.Second)
	o.MaxPeers = orDefault(o.MaxPeers, 4096)
	return &Peers{o: o, known: map[string]*peerState{}, beaconAt: now, sweepAt: now.Add(sweepInterval)}
}

// Handle takes what a tower tells. A newcomer is answered with a beacon at once,
// so that it need not wait for the next one to know this node.
func (p *Peers) Handle(now time.Time, peer Peer) {
	if peer.Address == p.o.Address {
		return
	}
	expires := now.Add(p.o.Timeout)
	if known := p.known[peer.Endpoint]; known != nil {
		if known.address != peer.Address {
			p.out.Renamed = append(p.out.Renamed, peer)
			p.out.Beacon = true
		}
		known.address, known.expires = peer.Address, expires
		return
	}
	if len(p.known) >= p.o.MaxPeers {
		p.ignored++
		return
	}
	p.known[peer.Endpoint] = &peerState{address: peer.Address, expires: expires}
	p.out.Connect = append(p.out.Connect, peer)
	p.out.Beacon = true
}

// Tick does what is due.
func (p *Peers) Tick(now time.Time) {
	if !now.Before(p.beaconAt) {
		p.beaconAt = now.Add(p.o.Interval)
		p.out.Beacon = true
	}
	if now.Before(p.sweepAt) {
		return
	}
	p.sweepAt = now.Add(min(sweepInterval, p.o.Timeout))
	first := len(p.out.Disconnect)
	for endpoint, known := range p.known {
		if !now.Before(known.expires) {
			p.out.Disconnect = append(p.out.Disconnect, Peer{Address: known.address, Endpoint: endpoint})
			delete(p.known, endpoint)
		}
	}
	slices.SortFunc(p.out.Disconnect[first:], byEndpoint)
}

func byEndpoint(a, b Peer) int { return strings.Compare(a.Endpoint, b.Endpoint) }

// Deadline is when Tick has something to do.
func (p *Peers) Deadline() time.Time { return sooner(p.beaconAt, p.sweepAt) }

// Drain returns what is to be done: first Disconnect, then Connect. It is valid
// until the next call of anything.
func (p *Peers) Drain() PeersEffects {
	out := p.out
	p.out = PeersEffects{Connect: out.Connect[:0], Disconnect: out.Disconnect[:0], Renamed: out.Renamed[:0]}
	return out
}

// All are the peers, by endpoint.
func (p *Peers) All() []Peer {
	all := make([]Peer, 0, len(p.known))
	for endpoint, known := range p.known {
		all = append(all, Peer{Address: known.address, Endpoint: endpoint})
	}
	slices.SortFunc(all, byEndpoint)
	return all
}

// Ignored counts beacons of peers that there was no room for.
func (p *Peers) Ignored() uint64 { return p.ignored }
