package listener

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/internal/quota"
)

// Unlimited is a limit that nobody reaches.
const Unlimited = 1<<31 - 1

// Limits bound the connections of a node (KIP-402, KIP-612).
type Limits struct {
	// Connections is how many there may be, and of one address.
	Connections, PerAddress int
	// Overrides are the limits of addresses that have one of their own.
	Overrides map[netip.Addr]int
	// Rate is how many may come a second.
	Rate int
	// Listeners bound the connections of one listener each, by its name.
	Listeners map[string]ListenerLimits
	// Addresses bound how many may come a second from one address.
	Addresses quota.Limits
}

// ListenerLimits are those of one listener.
type ListenerLimits struct{ Connections, Rate int }

// NoLimits returns limits that let everybody in.
func NoLimits() Limits {
	return Limits{Connections: Unlimited, PerAddress: Unlimited, Rate: Unlimited}
}

// Gate lets connections in, for all listeners of a node together. Where there
// are too many, or they come too fast, a listener accepts no more until there
// is room, so that they queue where they cost nothing; an address that alone is
// too much is turned away.
type Gate struct {
	window quota.Window
	born   time.Time

	mu struct {
		sync.Mutex
		limits     Limits
		total      int
		byListener map[string]int
		byAddress  map[netip.Addr]int
		rate       quota.Rate
		rates      map[string]*quota.Rate // By listener.
		addresses  *quota.Meter
		changed    chan struct{} // Closed when there may be room, and made anew.
	}
}

// NewGate returns a gate. Rates are measured, and waits for them are bounded,
// by the window.
func NewGate(w quota.Window, l Limits) *Gate {
	g := &Gate{window: w, born: time.Now()}
	g.mu.byListener, g.mu.byAddress, g.mu.rates = map[string]int{}, map[netip.Addr]int{}, map[string]*quota.Rate{}
	g.mu.addresses = quota.NewMeter(quota.Connection, w, g.born)
	g.mu.changed = make(chan struct{})
	g.Update(l)
	return g
}

// Update replaces the limits. It returns how many connections there are above
// the limit now: the caller closes as many.
func (g *Gate) Update(l Limits) (excess int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.limits = l
	g.mu.addresses.SetLimits(l.Addresses)
	g.wakeLocked()
	return max(0, g.mu.total-l.Connections)
}

func (g *Gate) wakeLocked() {
	close(g.mu.changed)
	g.mu.changed = make(chan struct{})
}

// verdict is what becomes of a connection.
type verdict struct {
	admitted bool
	// wait is how long one that is not admitted is kept waiting before it is
	// closed, so that it does not come back at once.
	wait time.Duration
}

// enter waits until a listener may take one more connection, and decides about
// it. Somebody who is admitted has to leave.
func (g *Gate) enter(listener string, from netip.Addr, halt <-chan struct{}) verdict {
	if wait := g.pace(listener); wait > 0 && !sleep(wait, halt, nil) {
		return verdict{}
	}
	for {
		v, changed := g.decide(listener, from)
		if changed == nil {
			return v
		}
		select {
		case <-changed:
		case <-halt:
			return verdict{}
		}
	}
}

// pace counts one more connection and returns how long to wait for the rates
// to come down.
func (g *Gate) pace(listener string) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.nowMillis()
	g.mu.rate.Record(g.window, 1, now)
	r := g.rateLocked(listener)
	r.Record(g.window, 1, now)
	ms := int64(0)
	if bound := g.mu.limits.Rate; bound < Unlimited {
		ms = g.mu.rate.Wait(g.window, float64(bound), now)
	}
	if bound := g.listenerLocked(listener).Rate; bound < Unlimited {
		ms = max(ms, r.Wait(g.window, float64(bound), now))
	}
	return min(time.Duration(ms)*time.Millisecond, g.window.Length)
}

func (g *Gate) nowMillis() int64 { return time.Since(g.born).Milliseconds() }

func (g *Gate) rateLocked(listener string) *quota.Rate {
	r := g.mu.rates[listener]
	if r == nil {
		r = &quota.Rate{}
		g.mu.rates[listener] = r
	}
	return r
}

func (g *Gate) listenerLocked(name string) ListenerLimits {
	if l, ok := g.mu.limits.Listeners[name]; ok {
		return l
	}
	return ListenerLimits{Unlimited, Unlimited}
}

// decide admits a connection or turns it away, or returns a channel to wait on
// for room.
func (g *Gate) decide(listener string, from netip.Addr) (verdict, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := &g.mu.limits
	if g.mu.total >= l.Connections || g.mu.byListener[listener] >= g.listenerLocked(listener).Connections {
		return verdict{}, g.mu.changed
	}
	if !l.Addresses.None() {
		if wait := g.addressWaitLocked(listener, from); wait > 0 {
			return verdict{wait: wait}, nil
		}
	}
	if g.mu.byAddress[from] >= g.perAddressLocked(from) {
		return verdict{}, nil
	}
	g.mu.total++
	g.mu.byListener[listener]++
	g.mu.byAddress[from]++
	return verdict{admitted: true}, nil
}

// addressWaitLocked counts a connection of an address. One that comes too soon
// was none: it counts neither here nor for the others.
func (g *Gate) addressWaitLocked(listener string, from netip.Addr) time.Duration {
	now, name := time.Now(), from.String()
	wait := g.mu.addresses.Charge(now, "", name, 1)
	if wait > 0 {
		g.mu.addresses.Note(now, "", name, -1)
		g.mu.rate.Record(g.window, -1, g.nowMillis())
		g.rateLocked(listener).Record(g.window, -1, g.nowMillis())
	}
	return wait
}

func (g *Gate) perAddressLocked(from netip.Addr) int {
	if n, ok := g.mu.limits.Overrides[from]; ok {
		return n
	}
	return g.mu.limits.PerAddress
}

// leave gives back the place of a connection that has ended.
func (g *Gate) leave(listener string, from netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.total--
	g.mu.byListener[listener]--
	if g.mu.byAddress[from]--; g.mu.byAddress[from] == 0 {
		delete(g.mu.byAddress, from)
	}
	g.wakeLocked()
}

// addressOf is the address behind a connection; not valid for what has none.
func addressOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
