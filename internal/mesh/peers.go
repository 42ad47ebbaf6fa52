package mesh

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/internal/fabric"
)

// addressAt is who is at an endpoint, or "".
func (n *Node) addressAt(endpoint string) string {
	n.peers.RLock()
	defer n.peers.RUnlock()
	return n.peers.at[endpoint]
}

// Peers are the nodes that this one is connected to, by endpoint.
func (n *Node) Peers() []fabric.Peer {
	n.peers.RLock()
	defer n.peers.RUnlock()
	all := make([]fabric.Peer, 0, len(n.peers.at))
	for _, endpoint := range slices.SortedFunc(maps.Keys(n.peers.at), strings.Compare) {
		all = append(all, fabric.Peer{Address: n.peers.at[endpoint], Endpoint: endpoint})
	}
	return all
}

// hearTowers hands on what towers say: of peers, and that they are heard.
func (n *Node) hearTowers(ctx context.Context, to chan<- fabric.Peer, welcome chan<- struct{}) {
	for {
		b, err := n.towers.from.Receive(ctx)
		if err != nil {
			return
		}
		for _, m := range b.Messages {
			peer, err := fabric.ParsePeer(m)
			if err != nil {
				if !fabric.IsWelcome(m) {
					n.Malformed()
					continue
				}
				select {
				case welcome <- struct{}{}:
				case <-ctx.Done():
					return
				}
				continue
			}
			if n.o.Beside != "" && peer.Address == n.o.Beside {
				continue
			}
			select {
			case to <- peer:
			case <-ctx.Done():
				return
			}
		}
		b.Release()
	}
}

// awaitTowers says when a tower begins to listen: what was sent before is lost.
func (n *Node) awaitTowers(ctx context.Context, listening chan<- struct{}) {
	for {
		b, err := n.towers.to.Receive(ctx)
		if err != nil {
			return
		}
		b.Release()
		select {
		case listening <- struct{}{}:
		default:
		}
	}
}

// meet is the shell of the peers' machine. Peers answer the first beacon that they
// hear, and C's no other: it is sent when the tower hears this node, and this
// node the tower.
func (n *Node) meet(ctx context.Context, heard <-chan fabric.Peer, listening, welcome <-chan struct{}) {
	alarm := time.NewTimer(n.o.Interval) // A tower that has no welcome waits so long.
	defer alarm.Stop()
	var towers struct{ listen, speak int }
	introduce := func() {
		if towers.listen > 0 && towers.speak > 0 {
			towers.listen, towers.speak = towers.listen-1, towers.speak-1
			n.towers.to.Send(n.beacon...)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-listening:
			towers.listen = min(towers.listen+1, len(n.o.ToTowers))
			introduce()
		case <-welcome:
			towers.speak = min(towers.speak+1, len(n.o.FromTowers))
			introduce()
		case p := <-heard:
			n.turn(func() { n.peers.Handle(time.Now(), p) })
			if n.addressAt(p.Endpoint) == p.Address {
				n.connectTo(p)
			}
		case <-alarm.C:
			n.turn(func() { n.peers.Tick(time.Now()) })
			alarm.Reset(time.Until(n.peers.Deadline()))
		}
	}
}

// turn changes the machine, and does what it wants done. Only meet changes it.
func (n *Node) turn(change func()) {
	n.peers.Lock()
	change()
	e := n.peers.Drain()
	for _, p := range e.Disconnect {
		delete(n.peers.at, p.Endpoint)
	}
	var left []fabric.Peer
	for _, p := range slices.Concat(e.Renamed, e.Connect) {
		if old, ok := n.peers.at[p.Endpoint]; ok {
			left = append(left, fabric.Peer{Address: old, Endpoint: p.Endpoint})
		}
		n.peers.at[p.Endpoint] = p.Address
	}
	n.peers.Unlock()
	for _, p := range e.Disconnect {
		for _, s := range n.inlets {
			_ = s.Disconnect(p.Endpoint) // It was connected, or is no endpoint.
		}
		n.o.Log.Info("peer is gone", "address", p.Address, "endpoint", p.Endpoint)
	}
	for _, p := range e.Connect {
		n.o.Log.Info("peer", "address", p.Address, "endpoint", p.Endpoint)
	}
	if e.Beacon {
		n.towers.to.Send(n.beacon...)
	}
	if n.o.Left == nil {
		return
	}
	for _, p := range append(left, e.Disconnect...) {
		n.o.Left(p)
	}
}

// connectTo connects to a peer. One whose connection ended, and who is heard, is
// back, or another has its port: it is dialled at once.
func (n *Node) connectTo(p fabric.Peer) {
	for _, s := range n.inlets {
		if err := s.Connect(p.Endpoint); err != nil {
			n.o.Log.Debug("peer cannot be reached", "address", p.Address, "err", err)
		}
	}
}
