package listener

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/internal/quota"
)

var usual = quota.Window{Samples: 11, Length: time.Second}

// gated is a world whose gate has these limits, made in its bubble.
func gated(t *testing.T, change func(*Limits), f func(t *testing.T, w *world, g *Gate)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := NoLimits()
		change(&l)
		g := NewGate(usual, l)
		inBubble(t, Options{Name: "PLAINTEXT", Gate: g}, func(t *testing.T, w *world) { f(t, w, g) })
		if g.mu.total != 0 || len(g.mu.byAddress) != 0 || g.mu.byListener["PLAINTEXT"] != 0 {
			t.Errorf("places were not given back: %d", g.mu.total)
		}
	})
}

// works reports whether a client is served.
func (c *client) works() bool {
	synctest.Wait()
	c.mu.Lock()
	ended := c.err != nil
	c.mu.Unlock()
	if ended {
		return false
	}
	if err := c.SetWriteDeadline(time.Now().Add(time.Millisecond)); err != nil {
		return false
	}
	if _, err := c.Write(request(opEcho, 1)); err != nil {
		return false
	}
	return slices.Equal(c.got(), []int{1})
}

// One connection too many waits until there is room; the next waits behind it.
func TestMaxConnections(t *testing.T) {
	gated(t, func(l *Limits) { l.Connections = 2 }, func(t *testing.T, w *world, _ *Gate) {
		a, b, c := w.dial(), w.dialFrom("10.0.0.2"), w.dialFrom("10.0.0.3")
		if !a.works() || !b.works() || c.works() || c.closed() {
			t.Error("the wrong ones are served")
		}
		a.Close()
		if !c.works() {
			t.Error("room, and nobody is let in")
		}
		if n := w.server.Stats().Refused.Load(); n != 0 {
			t.Errorf("%d refused", n)
		}
	})
}

// A listener has its own limit.
func TestListenerMaxConnections(t *testing.T) {
	limit := func(l *Limits) {
		l.Listeners = map[string]ListenerLimits{"PLAINTEXT": {1, Unlimited}, "OTHER": {0, Unlimited}}
	}
	gated(t, limit, func(t *testing.T, w *world, _ *Gate) {
		a, b := w.dial(), w.dial()
		if !a.works() || b.works() || b.closed() {
			t.Error("the wrong ones are served")
		}
	})
}

// More of one address than it may have are closed at once.
func TestPerAddress(t *testing.T) {
	limit := func(l *Limits) {
		l.PerAddress, l.Overrides = 1, map[netip.Addr]int{netip.MustParseAddr("10.0.0.2"): 2, netip.MustParseAddr("10.0.0.3"): 0}
	}
	gated(t, limit, func(t *testing.T, w *world, _ *Gate) {
		f := func(ip string, served bool) *client {
			t.Helper()
			c := w.dialFrom(ip)
			if c.works() != served || c.closed() == served {
				t.Errorf("%s: served is not %v", ip, served)
			}
			return c
		}
		first := f("10.0.0.1", true)
		f("10.0.0.1", false)
		f("10.0.0.2", true)
		f("10.0.0.2", true)
		f("10.0.0.2", false)
		f("10.0.0.3", false)
		first.Close()
		synctest.Wait()
		f("10.0.0.1", true)
		if n := w.server.Stats().Refused.Load(); n != 3 {
			t.Errorf("%d refused", n)
		}
	})
}

// Whoever lowers the limit has connections closed, idle ones first; whoever
// raises it lets in who waits.
func TestLimitsChange(t *testing.T) {
	gated(t, func(l *Limits) { l.Connections = 2 }, func(t *testing.T, w *world, g *Gate) {
		busy, idle, waiting := w.dial(), w.dial(), w.dial()
		busy.send(request(opPark, 7))
		synctest.Wait()
		l := NoLimits()
		l.Connections = 3
		g.Update(l)
		if !waiting.works() {
			t.Error("the limit was raised, and nobody was let in")
		}
		l.Connections = 1
		if n := w.server.Shed(g.Update(l)); n != 2 {
			t.Errorf("%d closed", n)
		}
		if busy.closed() || !idle.closed() || !waiting.closed() {
			t.Error("the wrong ones were closed")
		}
		w.take(0).release()
	})
}

// Connections that come too fast are accepted later, by the rates of the node
// and of the listener, and never wait longer than a sample each.
func TestConnectionRate(t *testing.T) {
	f := func(change func(*Limits)) {
		t.Helper()
		gated(t, change, func(t *testing.T, w *world, _ *Gate) {
			began := time.Now()
			for range 60 {
				c := w.dial()
				if c.closed() {
					t.Fatal("closed")
				}
				c.Close()
			}
			synctest.Wait()
			took := time.Since(began)
			// 20 pass at once: two a second over ten samples.
			if took < 18*time.Second || took > 30*time.Second {
				t.Errorf("60 connections at 2 a second took %v", took)
			}
			if got := time.Duration(w.server.Stats().WaitNanos.Load()); got < took-2*time.Second {
				t.Errorf("waited %v of %v", got, took)
			}
		})
	}
	f(func(l *Limits) { l.Rate = 2 })
	f(func(l *Limits) { l.Listeners = map[string]ListenerLimits{"PLAINTEXT": {Unlimited, 2}} })
}

// An address that connects too fast is turned away after a while, and others do
// not notice.
func TestAddressRate(t *testing.T) {
	limit := func(l *Limits) {
		l.Addresses = quota.Addresses(map[quota.Part]float64{quota.Everybody(): 1, quota.Named("10.0.0.9"): 100})
		l.Rate = 3
	}
	gated(t, limit, func(t *testing.T, w *world, g *Gate) {
		for range 10 {
			if c := w.dialFrom("10.0.0.1"); !c.works() {
				t.Fatal("refused within the quota")
			}
		}
		began := time.Now()
		c := w.dialFrom("10.0.0.1")
		if c.closed() || c.works() {
			t.Error("closed at once, or served")
		}
		for range 15 {
			if c := w.dialFrom("10.0.0.9"); !c.works() {
				t.Fatal("another address was refused")
			}
		}
		if time.Since(began) > time.Second {
			t.Error("others had to wait")
		}
		time.Sleep(2 * time.Second)
		if !c.closed() || w.server.Stats().Throttled.Load() != 1 || len(w.server.mu.delayed) != 0 {
			t.Error("not closed after its time")
		}
		time.Sleep(time.Minute)
		if c := w.dialFrom("10.0.0.1"); !c.works() {
			t.Error("refused for ever")
		}
	})
}

// A flood that is turned away holds a bounded number of sockets, and none when
// the server has stopped.
func TestDelayedAreBounded(t *testing.T) {
	limit := func(l *Limits) { l.Addresses = quota.Addresses(map[quota.Part]float64{quota.Everybody(): 0.1}) }
	gated(t, limit, func(t *testing.T, w *world, _ *Gate) {
		var last *client
		for range maxDelayed + 10 {
			last = w.dial()
		}
		if !last.closed() || len(w.server.mu.delayed) != maxDelayed {
			t.Errorf("%d wait", len(w.server.mu.delayed))
		}
	})
}

// A gate that lets nobody in lets the server stop.
func TestStopAtTheGate(t *testing.T) {
	gated(t, func(l *Limits) { l.Connections = 0 }, func(t *testing.T, w *world, _ *Gate) {
		if c := w.dial(); c.works() || c.closed() {
			t.Error("served or closed")
		}
	})
}
