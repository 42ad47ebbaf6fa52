package zmtp

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// inTime runs a test in virtual time, with a network in memory.
func inTime(t *testing.T, f func(t *testing.T, m *memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newMemory()) })
}

const somewhere = "tcp://somewhere:1"

func bindAt(t *testing.T, s *Socket, endpoint string) {
	t.Helper()
	if actual, err := s.Bind(endpoint); err != nil || actual != endpoint {
		t.Fatalf("bound %s: %v", actual, err)
	}
}

func closeNow(t *testing.T, s *Socket) {
	t.Helper()
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// Who is known to be back is dialled at once.
func TestConnectAgain(t *testing.T) {
	inTime(t, func(t *testing.T, m *memory) {
		sub := New(m.options(Options{Kind: Sub, ReconnectMin: time.Hour, ReconnectMax: time.Hour}))
		defer closeNow(t, sub)
		subscribe(t, sub, "a")
		connect(t, sub, somewhere)
		synctest.Wait()
		pub := New(m.options(Options{Kind: XPub}))
		defer closeNow(t, pub)
		bindAt(t, pub, somewhere)
		begin := time.Now()
		connect(t, sub, somewhere)
		expectEvents(t, pub, "+a 1")
		if took := time.Since(begin); took > 0 {
			t.Errorf("after %v", took)
		}
		connect(t, sub, somewhere) // It is connected: nothing happens.
		time.Sleep(time.Minute)
		if n := m.dials.Load(); n != 2 {
			t.Errorf("dialled %d times", n)
		}
	})
}

// Nobody there: the pauses double up to their maximum, and a little by chance.
func TestBackOff(t *testing.T) {
	inTime(t, func(t *testing.T, m *memory) {
		sub := New(m.options(Options{Kind: Sub, ReconnectMin: 100 * time.Millisecond, ReconnectMax: 2 * time.Second}))
		defer closeNow(t, sub)
		subscribe(t, sub, "a")
		connect(t, sub, somewhere)
		synctest.Wait()
		for _, pause := range []time.Duration{100, 200, 400, 800, 1600, 2000, 2000} {
			pause *= time.Millisecond
			before := m.dials.Load()
			time.Sleep(pause - 1)
			if synctest.Wait(); m.dials.Load() != before {
				t.Errorf("dialled before %v", pause)
			}
			for m.dials.Load() == before {
				time.Sleep(time.Millisecond)
				synctest.Wait()
				pause += time.Millisecond
			}
			if pause > 3*time.Second+2*time.Millisecond {
				t.Errorf("dialled after %v", pause)
			}
		}
		pub := New(m.options(Options{Kind: XPub}))
		defer closeNow(t, pub)
		bindAt(t, pub, somewhere)
		expectEvents(t, pub, "+a 1")
		begin := time.Now() // It was there: the first pause is due again.
		for _, p := range pub.Peers() {
			p.sever()
		}
		b, err := pub.Receive(context.Background())
		if err != nil || !b.Subscriptions[0].Subscribe || time.Since(begin) > 151*time.Millisecond {
			t.Errorf("back after %v: %+v, %v", time.Since(begin), b, err)
		}
	})
}

// Who does not shake hands in time is cut off.
func TestHandshakeTimeout(t *testing.T) {
	inTime(t, func(t *testing.T, m *memory) {
		pub := New(m.options(Options{Kind: Pub}))
		defer closeNow(t, pub)
		bindAt(t, pub, somewhere)
		for _, said := range [][]byte{nil, greeting(1)[:30], greeting(1), append(greeting(1), 4, 100, 5)} {
			conn, err := m.dial(t.Context(), "tcp", "somewhere:1")
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			go conn.Write(said)
			if _, err := io.Copy(io.Discard, conn); err != nil || time.Since(begin) != defaultHandshake {
				t.Errorf("after %d bytes it took %v, %v", len(said), time.Since(begin), err)
			}
		}
	})
}

// A peer that is silent for an interval and the timeout is cut off; one that
// answers PINGs is not.
func TestHeartbeat(t *testing.T) {
	inTime(t, func(t *testing.T, m *memory) {
		pub := New(m.options(Options{Kind: XPub, Heartbeat: Heartbeat{Interval: time.Second, Timeout: 3 * time.Second, TTL: 5 * time.Second}}))
		defer closeNow(t, pub)
		bindAt(t, pub, somewhere)
		sub := New(m.options(Options{Kind: Sub}))
		defer closeNow(t, sub)
		subscribe(t, sub, "a")
		connect(t, sub, somewhere)
		expectEvents(t, pub, "+a 1")
		peers := pub.Peers()
		time.Sleep(time.Hour)
		if now := pub.Peers(); len(now) != 1 || now[0] != peers[0] {
			t.Errorf("the connection did not last: %v", now)
		}

		conn, err := m.dial(t.Context(), "tcp", "somewhere:1")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		r := raw{t, conn}
		// It wants more patience with itself than we have, in vain.
		go conn.Write(slices.Concat(greeting(1), ready("SUB"), command("PING", "\xff\xff")))
		r.expect([]byte("\xff\x00\x00\x00\x00\x00\x00\x00\x00"), greeting(1)[9:], ready("XPUB"), command("PONG", ""))
		for range 3 {
			r.expect(command("PING", "\x00\x32"))
		}
		r.expectEnd()
		if took := time.Since(begin); took != 4*time.Second {
			t.Errorf("cut off after %v", took)
		}
	})
}

// A PING may ask to be taken for dead when nothing follows it.
func TestTimeToLive(t *testing.T) {
	inTime(t, func(t *testing.T, m *memory) {
		sub := New(m.options(Options{Kind: Sub}))
		defer closeNow(t, sub)
		bindAt(t, sub, somewhere)
		conn, err := m.dial(t.Context(), "tcp", "somewhere:1")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn.Write(append(greeting(1), ready("PUB")...))
			time.Sleep(time.Hour) // Without a PING there is no hurry.
			conn.Write(command("PING", "\x00\x0f"))
		}()
		begin := time.Now()
		raw{t, conn}.expectEnd()
		if took := time.Since(begin); took != time.Hour+1500*time.Millisecond {
			t.Errorf("cut off after %v", took)
		}
	})
}

// Close waits for queues as long as it may, and says what was lost.
func TestLinger(t *testing.T) {
	f := func(linger, patience, want time.Duration, lost bool) {
		t.Helper()
		inTime(t, func(t *testing.T, m *memory) {
			pub := New(m.options(Options{Kind: XPub, Linger: linger}))
			bindAt(t, pub, somewhere)
			conn, err := m.dial(t.Context(), "tcp", "somewhere:1")
			if err != nil {
				t.Fatal(err)
			}
			go conn.Write(append(append(greeting(1), ready("SUB")...), command("SUBSCRIBE", "")...))
			r := raw{t, conn}
			r.expect([]byte("\xff\x00\x00\x00\x00\x00\x00\x00\x00"), greeting(1)[9:], ready("XPUB"))
			expectEvents(t, pub, "+ 1")
			send(pub, "last")
			send(pub, strings.Repeat("x", 2*MaxCopied))
			if !lost {
				go func() { time.Sleep(want); r.expectEnd() }()
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			begin := time.Now()
			err = pub.Close(ctx)
			if took := time.Since(begin); took != want || (err != nil) != lost {
				t.Errorf("Close took %v, want %v; error %v", took, want, err)
			}
		})
	}
	f(0, time.Minute, defaultLinger, true)
	f(10*time.Second, time.Minute, 10*time.Second, true)
	f(10*time.Second, 3*time.Second, 3*time.Second, true)
	f(-1, time.Minute, 0, true)
	f(10*time.Second, time.Minute, 2*time.Second, false)
}

// A publisher that is disconnected sends what waits; a subscriber is cut at once.
func TestDisconnect(t *testing.T) {
	inTime(t, func(t *testing.T, m *memory) {
		sub := New(m.options(Options{Kind: XSub}))
		defer closeNow(t, sub)
		bindAt(t, sub, somewhere)
		subscribe(t, sub, "a")
		pub := New(m.options(Options{Kind: XPub}))
		defer closeNow(t, pub)
		for range 3 {
			connect(t, pub, somewhere)
			connect(t, pub, somewhere) // Is connected.
			expectEvents(t, pub, "+a 1")
			send(pub, "a", "1")
			send(pub, "a", "2")
			if err := pub.Disconnect(somewhere); err != nil {
				t.Fatal(err)
			}
			expectMessages(t, sub, "a|1", "a|2")
			expectEvents(t, pub, "-a 0")
			if err := pub.Disconnect(somewhere); !errors.Is(err, ErrEndpoint) {
				t.Errorf("disconnected twice: %v", err)
			}
			time.Sleep(time.Hour)
			if len(pub.Peers())+len(sub.Peers()) > 0 {
				t.Error("it was connected again")
			}
		}
	})
}

// IPv6 addresses stand in brackets; what is bound can be connected to.
func TestIPv6(t *testing.T) {
	inTime(t, func(t *testing.T, m *memory) {
		const endpoint = "tcp://[fe80::1%eth0]:5556"
		pub := New(m.options(Options{Kind: XPub}))
		defer closeNow(t, pub)
		bindAt(t, pub, endpoint)
		sub := New(m.options(Options{Kind: Sub}))
		defer closeNow(t, sub)
		subscribe(t, sub, "a")
		connect(t, sub, endpoint)
		expectEvents(t, pub, "+a 1")
		if m.listeners["[fe80::1%eth0]:5556"] == nil {
			t.Errorf("listens at %v", m.listeners)
		}
	})
}

// A subscriber that does not read holds a Disconnect up for the linger time, and
// no longer.
func TestDisconnectStalled(t *testing.T) {
	inTime(t, func(t *testing.T, m *memory) {
		l, err := m.listen("tcp", "somewhere:1")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		pub := New(m.options(Options{Kind: XPub, Linger: 7 * time.Second}))
		defer closeNow(t, pub)
		connect(t, pub, somewhere)
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		go conn.Write(slices.Concat(greeting(1), ready("SUB"), command("SUBSCRIBE", "a")))
		r := raw{t, conn}
		r.expect([]byte("\xff\x00\x00\x00\x00\x00\x00\x00\x00"), greeting(1)[9:], ready("XPUB"))
		expectEvents(t, pub, "+a 1")
		send(pub, "a")
		if err := pub.Disconnect(somewhere); err != nil {
			t.Fatal(err)
		}
		time.Sleep(7*time.Second - time.Nanosecond)
		if synctest.Wait(); len(pub.Peers()) != 1 {
			t.Error("it was cut off too early")
		}
		time.Sleep(time.Nanosecond)
		if synctest.Wait(); len(pub.Peers()) != 0 {
			t.Error("it is still there")
		}
	})
}

// A reader that waits for room in the inbox ends with its connection.
func TestDisconnectFullInbox(t *testing.T) {
	inTime(t, func(t *testing.T, m *memory) {
		pub := New(m.options(Options{Kind: XPub}))
		defer closeNow(t, pub)
		bindAt(t, pub, somewhere)
		sub := New(m.options(Options{Kind: Sub, ReceiveHighWater: 1}))
		defer closeNow(t, sub)
		subscribe(t, sub, "")
		connect(t, sub, somewhere)
		expectEvents(t, pub, "+ 1")
		for range 3 {
			send(pub, "x")
			synctest.Wait()
		}
		if n := sub.Stats().Received; n != 1 {
			t.Errorf("%d messages are in an inbox for one", n)
		}
		if err := sub.Disconnect(somewhere); err != nil {
			t.Fatal(err)
		}
		if synctest.Wait(); len(sub.Peers()) != 0 {
			t.Error("the reader still waits")
		}
	})
}

// A failing accept is not the end of the listener.
func TestAcceptFails(t *testing.T) {
	inTime(t, func(t *testing.T, m *memory) {
		o := m.options(Options{Kind: XPub})
		failures := 0
		o.Listen = func(network, address string) (net.Listener, error) {
			l, err := m.listen(network, address)
			return &failing{l, &failures}, err
		}
		pub := New(o)
		defer closeNow(t, pub)
		bindAt(t, pub, somewhere)
		sub := New(m.options(Options{Kind: Sub}))
		defer closeNow(t, sub)
		subscribe(t, sub, "a")
		connect(t, sub, somewhere)
		expectEvents(t, pub, "+a 1")
		if failures != 3 {
			t.Errorf("%d failures", failures)
		}
	})
}

type failing struct {
	net.Listener
	times *int
}

func (f *failing) Accept() (net.Conn, error) {
	if *f.times < 3 {
		*f.times++
		return nil, errors.New("too many open files")
	}
	return f.Listener.Accept()
}
