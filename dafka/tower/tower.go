// Package tower is where the nodes of a Dafka mesh meet: nodes tell a tower where
// they are, and it tells everybody. Records do not pass through it, and it
// remembers nothing. There may be several.
package tower

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/mesh"
	"github.com/barnabas-log/barnabas/internal/zmtp"
)

// Tower is a meeting point.
type Tower struct {
	hears, speaks *zmtp.Socket
	sub, pub      string
	rewrite       fabric.Tower
	log           *slog.Logger
	told, odd     atomic.Uint64
	cancel        context.CancelFunc
	running       sync.WaitGroup
}

// Stats are what a tower has counted.
type Stats struct {
	Nodes     int    // Connections that listen to it.
	Beacons   uint64 // That were passed on.
	Malformed uint64 // That were not.
}

// New makes a tower, which runs until Close. Its addresses are the
// configuration's tower/sub_address, where nodes send beacons, and
// tower/pub_address. A nil log logs nothing.
func New(c *dafka.Config, log *slog.Logger) (*Tower, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	security, err := mesh.ParseSecurity(c.Public, c.Secret)
	if err != nil {
		return nil, err
	}
	t := &Tower{log: log, rewrite: fabric.Tower{Own: ownAddress()}}
	t.hears = zmtp.New(security.Listening(zmtp.Options{Kind: zmtp.XSub, Log: log}))
	t.speaks = zmtp.New(security.Listening(zmtp.Options{Kind: zmtp.XPub, Welcome: fabric.Welcome(), Log: log}))
	if err := t.bind(c.Tower.Sub, c.Tower.Pub); err != nil {
		return nil, errors.Join(err, t.closeSockets(context.Background()))
	}
	var ctx context.Context
	ctx, t.cancel = context.WithCancel(context.Background())
	t.running.Go(func() { t.run(ctx) })
	t.running.Go(func() { t.drain(ctx) })
	return t, nil
}

// bind listens. Every publisher is asked for beacons, whether somebody listens
// to us yet or not.
func (t *Tower) bind(sub, pub string) (err error) {
	for _, prefix := range fabric.BeaconPrefixes() {
		err = errors.Join(err, t.hears.Subscribe(prefix))
	}
	if err != nil {
		return err
	}
	if t.sub, err = t.hears.Bind(sub); err != nil {
		return err
	}
	t.pub, err = t.speaks.Bind(pub)
	return err
}

// Sub and Pub are where the tower listens, with the ports in use.
func (t *Tower) Sub() string { return t.sub }

// Pub is where the tower speaks.
func (t *Tower) Pub() string { return t.pub }

// run passes beacons on.
func (t *Tower) run(ctx context.Context) {
	for {
		b, err := t.hears.Receive(ctx)
		if err != nil {
			return
		}
		from := addressOf(b.From.Remote())
		for _, m := range b.Messages {
			beacon, err := fabric.ParseBeacon(m)
			if err != nil {
				t.odd.Add(1)
				continue
			}
			peer := t.rewrite.Rewrite(beacon, from)
			t.log.Debug("beacon", "address", peer.Address, "endpoint", peer.Endpoint)
			t.speaks.Send(peer.Frames()...)
			t.told.Add(1)
		}
		b.Release()
	}
}

// drain takes what subscribers ask for, which a tower need not know.
func (t *Tower) drain(ctx context.Context) {
	for {
		b, err := t.speaks.Receive(ctx)
		if err != nil {
			return
		}
		b.Release()
	}
}

func addressOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// ownAddress is the first IPv4 address of an interface that is up and can
// broadcast, as C's towers want it, or invalid if there is none.
func ownAddress() netip.Addr {
	interfaces, err := net.Interfaces()
	if err != nil {
		return netip.Addr{}
	}
	const want = net.FlagUp | net.FlagBroadcast
	for _, i := range interfaces {
		if i.Flags&want != want || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addresses, _ := i.Addrs()
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap().Is4() {
					return ip.Unmap()
				}
			}
		}
	}
	return netip.Addr{}
}

// Stats returns what the tower has counted.
func (t *Tower) Stats() Stats {
	return Stats{
		Nodes: len(t.speaks.Peers()), Beacons: t.told.Load(),
		Malformed: t.odd.Load() + t.hears.Stats().Malformed + t.speaks.Stats().Malformed,
	}
}

// Close ends the tower. Nodes that are connected to each other stay so for some
// seconds: beacon/timeout.
func (t *Tower) Close(ctx context.Context) error {
	err := t.closeSockets(ctx)
	t.cancel()
	t.running.Wait()
	return err
}

func (t *Tower) closeSockets(ctx context.Context) error {
	return errors.Join(t.hears.Close(ctx), t.speaks.Close(ctx))
}
