package broker

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/listener"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/quota"
	"github.com/barnabas-log/barnabas/model"
)

// limits keeps the gate of the listeners to what the configuration and the
// quotas of addresses say.
type limits struct {
	broker *Broker
	gate   *listener.Gate
	ctx    context.Context // Ends with the broker.

	mu      sync.Mutex // Held while the gate is given new limits.
	servers []*listener.Server
	hosts   map[string][]netip.Addr
	end     model.Offset // Of the newest image whose limits the gate has.
}

// newLimits makes the gate, with the limits of an image.
func newLimits(ctx context.Context, b *Broker, image *metadata.Image) *limits {
	w := quota.Window{Samples: b.config.QuotaSamples, Length: b.config.QuotaSample}
	l := &limits{broker: b, ctx: ctx, gate: listener.NewGate(w, listener.NoLimits()), hosts: map[string][]netip.Addr{}}
	l.set(image)
	return l
}

// set takes over the limits of an image, if it is not older than the last one.
// Names of hosts are looked up behind the caller's back, who may be the
// metadata log, and count from then on.
func (l *limits) set(image *metadata.Image) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if image.End() < l.end {
		return
	}
	l.end = image.End()
	cfg := l.broker.configIn(image)
	unknown := map[string]bool{}
	excess := l.gate.Update(listener.Limits{
		Connections: cfg.MaxConnections, PerAddress: cfg.MaxConnectionsPerIP, Rate: cfg.MaxConnectionRate,
		Overrides: l.overrides(cfg, unknown), Listeners: listenerLimits(cfg), Addresses: l.addresses(image, unknown),
	})
	for _, s := range l.servers {
		excess -= s.Shed(excess)
	}
	if len(unknown) > 0 {
		l.broker.running.Go(func() {
			l.lookUp(unknown)
			l.set(image)
		})
	}
}

// watch makes a server one that has to close connections when there are too
// many.
func (l *limits) watch(s *listener.Server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.servers = append(l.servers, s)
}

// configIn is the configuration that holds in an image.
func (b *Broker) configIn(image *metadata.Image) *config.Broker {
	return b.configs.In(image)
}

// unwatch undoes watch.
func (l *limits) unwatch(s *listener.Server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.servers = slices.DeleteFunc(l.servers, func(x *listener.Server) bool { return x == s })
}

func listenerLimits(cfg *config.Broker) map[string]listener.ListenerLimits {
	out := map[string]listener.ListenerLimits{}
	for name, l := range cfg.ListenerLimits {
		out[name] = listener.ListenerLimits{Connections: l.MaxConnections, Rate: l.MaxConnectionRate}
	}
	return out
}

func (l *limits) overrides(cfg *config.Broker, unknown map[string]bool) map[netip.Addr]int {
	out := map[netip.Addr]int{}
	for host, n := range cfg.PerIPOverrides {
		for _, a := range l.host(host, unknown) {
			out[a] = n
		}
	}
	return out
}

// addresses are the quotas of addresses.
func (l *limits) addresses(image *metadata.Image, unknown map[string]bool) quota.Limits {
	bounds := map[quota.Part]float64{}
	image.Quotas(func(q *metadata.Quota) bool {
		v, ok := q.Values[quota.Connection.Key()]
		if !ok || q.Entity.IP.Absent() {
			return true
		}
		name, named := q.Entity.IP.Name()
		if !named {
			bounds[quota.Everybody()] = v
		}
		for _, a := range l.host(name, unknown) {
			bounds[quota.Named(a.String())] = v
		}
		return true
	})
	return quota.Addresses(bounds)
}

// host are the addresses of a host; of a name that was not looked up yet, none
// so far.
func (l *limits) host(name string, unknown map[string]bool) []netip.Addr {
	if name == "" {
		return nil
	}
	if a, ok := quota.ParseAddress(name); ok {
		return []netip.Addr{a.Unmap().WithZone("")}
	}
	a, ok := l.hosts[name]
	if !ok {
		unknown[name] = true
	}
	return a
}

// isHost reports whether a name has an address.
func isHost(ctx context.Context, name string) bool {
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	return err == nil && len(found) > 0
}

// lookUpTime is how long names may be looked up.
const lookUpTime = 10 * time.Second

func (l *limits) lookUp(names map[string]bool) {
	ctx, cancel := context.WithTimeout(l.ctx, lookUpTime)
	defer cancel()
	for name := range names {
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
		if err != nil {
			l.broker.log("broker").Warn("host not found: it has no limit of its own", "host", name, "err", err)
		}
		for i := range found {
			found[i] = found[i].Unmap().WithZone("")
		}
		l.mu.Lock()
		l.hosts[name] = found
		l.mu.Unlock()
	}
}
