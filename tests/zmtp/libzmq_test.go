package zmtp

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/zmtp"
)

func patient(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// ours makes a socket of ours that is closed when the test ends.
func ours(t testing.TB, o zmtp.Options) *zmtp.Socket {
	t.Helper()
	s := zmtp.New(o)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = s.Close(ctx)
	})
	return s
}

func bind(t testing.TB, s *zmtp.Socket) string {
	t.Helper()
	endpoint, err := s.Bind("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	return endpoint
}

func connect(t testing.TB, s *zmtp.Socket, endpoint string) {
	t.Helper()
	if err := s.Connect(endpoint); err != nil {
		t.Fatal(err)
	}
}

func subscribe(t testing.TB, s *zmtp.Socket, prefixes ...string) {
	t.Helper()
	for _, p := range prefixes {
		if err := s.Subscribe([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
}

func send(s *zmtp.Socket, frames ...string) {
	var m zmtp.Message
	for _, f := range frames {
		m = append(m, []byte(f))
	}
	s.Send(m...)
}

// receive calls f with each batch until it returns true.
func receive(t testing.TB, s *zmtp.Socket, f func(b *zmtp.Batch) (enough bool)) {
	t.Helper()
	ctx := patient(t)
	for {
		b, err := s.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		enough := f(b)
		b.Release()
		if enough {
			return
		}
	}
}

// expect receives as many messages as wanted, and compares them.
func expect(t testing.TB, s *zmtp.Socket, want ...string) {
	t.Helper()
	var got []string
	receive(t, s, func(b *zmtp.Batch) bool {
		for _, m := range b.Messages {
			var frames []string
			for _, f := range m {
				frames = append(frames, string(f))
			}
			got = append(got, strings.Join(frames, "|"))
		}
		return len(got) >= len(want)
	})
	if fmt.Sprintf("%.100q", got) != fmt.Sprintf("%.100q", want) {
		t.Fatalf("received %.100q, want %.100q", got, want)
	}
}

// events receives as many subscriptions as wanted: + or -, the prefix, the count.
func events(t testing.TB, s *zmtp.Socket, want ...string) (from *zmtp.Peer) {
	t.Helper()
	var got []string
	receive(t, s, func(b *zmtp.Batch) bool {
		for _, e := range b.Subscriptions {
			sign := "-"
			if e.Subscribe {
				sign = "+"
			}
			got = append(got, fmt.Sprintf("%s%s %d", sign, e.Prefix, e.Count))
		}
		from = b.From
		return len(got) >= len(want)
	})
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("subscriptions %q, want %q", got, want)
	}
	return from
}

// Every pair of socket types, whoever binds: subscriptions arrive, messages that
// match do, others do not, and cancelling works.
func TestPairs(t *testing.T) {
	big := strings.Repeat("big", 40_000)
	for _, kind := range []string{"SUB", "XSUB"} {
		for _, weBind := range []bool{true, false} {
			t.Run(fmt.Sprintf("XPUB to libzmq's %s, we bind: %v", kind, weBind), func(t *testing.T) {
				pub := ours(t, zmtp.Options{Kind: zmtp.XPub})
				sub := start(t, kind)
				if weBind {
					sub.do("connect " + bind(t, pub))
				} else {
					connect(t, pub, sub.bind())
				}
				sub.subscribe("ab", "c")
				events(t, pub, "+ab 1", "+c 1")
				send(pub, "ax")
				send(pub, "abx", "", "end")
				send(pub, "c", big)
				sub.expect("abx||end", "c|"+big)
				sub.do("cancel " + inHex("ab"))
				events(t, pub, "-ab 0")
				send(pub, "ab")
				send(pub, "c")
				sub.expect("c")
				sub.kill()
				events(t, pub, "-c 0")
			})
		}
	}
	for _, kind := range []string{"PUB", "XPUB"} {
		for _, weBind := range []bool{true, false} {
			t.Run(fmt.Sprintf("SUB to libzmq's %s, we bind: %v", kind, weBind), func(t *testing.T) {
				sub := ours(t, zmtp.Options{Kind: zmtp.Sub})
				pub := start(t, kind)
				if weBind {
					pub.do("connect " + bind(t, sub))
				} else {
					connect(t, sub, pub.bind())
				}
				subscribe(t, sub, "ab", "c")
				if kind == "XPUB" {
					pub.expect("\x01ab", "\x01c")
				} else {
					warm(t, sub, pub, "c")
				}
				pub.send("ax")
				pub.send("abx", "", "end")
				pub.send("c", big)
				expect(t, sub, "abx||end", "c|"+big)
				if err := sub.Unsubscribe([]byte("ab")); err != nil {
					t.Fatal(err)
				}
				if kind == "XPUB" {
					pub.expect("\x00ab")
				}
				pub.send("ab")
				pub.send("c")
				expect(t, sub, "c")
			})
		}
	}
}

// warm waits until a PUB of libzmq, which tells nobody, knows the last of our
// subscriptions: it sends until something arrives, and receives all of it.
func warm(t testing.TB, sub *zmtp.Socket, pub *peer, topic string) {
	t.Helper()
	arrived := make(chan struct{})
	sent := make(chan int)
	go func() {
		for n := 1; ; n++ {
			pub.send(topic, fmt.Sprint("warm ", n))
			select {
			case <-arrived:
				sent <- n
				return
			default:
			}
		}
	}()
	first := true
	receive(t, sub, func(b *zmtp.Batch) bool {
		for range b.Messages {
			if first {
				close(arrived)
				first = false
			}
		}
		return true
	})
	<-sent
	pub.send(topic, "warmed up")
	receive(t, sub, func(b *zmtp.Batch) bool {
		last := b.Messages[len(b.Messages)-1]
		return string(last[1]) == "warmed up"
	})
}

// An XPUB of libzmq that is verbose and ours tell the same.
func TestEverySubscription(t *testing.T) {
	pub := ours(t, zmtp.Options{Kind: zmtp.XPub})
	endpoint := bind(t, pub)
	one, two := start(t, "XSUB"), start(t, "XSUB")
	one.do("connect " + endpoint)
	one.subscribe("a")
	events(t, pub, "+a 1")
	two.do("connect " + endpoint)
	two.subscribe("a")
	events(t, pub, "+a 1")
	send(pub, "a")
	one.expect("a")
	two.expect("a")
	two.kill()
	events(t, pub, "-a 0")
	send(pub, "a1")
	one.expect("a1")
}

// The welcome message is the first that a subscriber gets, in both directions.
func TestWelcome(t *testing.T) {
	pub := ours(t, zmtp.Options{Kind: zmtp.XPub, Welcome: []byte("W")})
	sub := start(t, "SUB")
	sub.subscribe("W", "a")
	sub.do("connect " + bind(t, pub))
	sub.expect("W")

	theirs := start(t, "XPUB", zmqWelcome, "W")
	ourSub := ours(t, zmtp.Options{Kind: zmtp.Sub})
	subscribe(t, ourSub, "W")
	connect(t, ourSub, theirs.bind())
	expect(t, ourSub, "W")
}

// Who connected finds a peer that comes late, and one that was killed and comes
// back, and subscribes anew.
func TestReconnect(t *testing.T) {
	pub := start(t, "XPUB")
	endpoint := pub.bind()
	sub := ours(t, zmtp.Options{Kind: zmtp.Sub})
	subscribe(t, sub, "a", "b")
	connect(t, sub, endpoint)
	for range 3 {
		pub.expect("\x01a", "\x01b")
		pub.send("a", "1")
		expect(t, sub, "a|1")
		pub.kill()
		pub = start(t, "XPUB")
		pub.do("bind " + endpoint)
	}

	ourPub := zmtp.New(zmtp.Options{Kind: zmtp.XPub})
	endpoint = bind(t, ourPub)
	theirSub := start(t, "SUB")
	theirSub.subscribe("a")
	theirSub.do("connect " + endpoint)
	for n := range 3 {
		events(t, ourPub, "+a 1")
		send(ourPub, "a", fmt.Sprint(n))
		if err := ourPub.Close(patient(t)); err != nil {
			t.Fatal(err)
		}
		theirSub.expect(fmt.Sprint("a|", n)) // Close has waited for it.
		ourPub = ours(t, zmtp.Options{Kind: zmtp.XPub})
		if _, err := ourPub.Bind(endpoint); err != nil {
			t.Fatal(err)
		}
	}
}

// counting counts the bytes that its connections have read and written.
type counting struct {
	net.Listener
	read, written atomic.Int64
}

type countingConn struct {
	net.Conn
	counts *counting
}

func (c *counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	return countingConn{conn, c}, err
}

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.counts.read.Add(int64(n))
	return n, err
}

func (c countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.counts.written.Add(int64(n))
	return n, err
}

// eventually waits for what nobody announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for ctx := patient(t); !ok(); time.Sleep(time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("still not: %s", what)
		}
	}
}

// Each answers the other's PINGs, and the connection lives through many of them.
func TestHeartbeats(t *testing.T) {
	f := func(name string, heartbeat zmtp.Heartbeat, pongs func(*counting) int64, options ...any) {
		t.Run(name, func(t *testing.T) {
			counts := &counting{}
			listen := func(network, address string) (l net.Listener, err error) {
				counts.Listener, err = net.Listen(network, address)
				return counts, err
			}
			pub := ours(t, zmtp.Options{Kind: zmtp.XPub, Heartbeat: heartbeat, Listen: listen})
			sub := start(t, "SUB", options...)
			sub.subscribe("a")
			sub.do("connect " + bind(t, pub))
			events(t, pub, "+a 1")
			before, end := pub.Peers(), pongs(counts)+20*7 // A PONG without context has 7 bytes.
			eventually(t, "twenty PONGs", func() bool { return pongs(counts) >= end })
			if after := pub.Peers(); len(after) != 1 || after[0] != before[0] {
				t.Errorf("the connection did not last: %v, then %v", before, after)
			}
			send(pub, "a")
			sub.expect("a")
		})
	}
	f("ours", zmtp.Heartbeat{Interval: 10 * time.Millisecond, Timeout: patience}, func(c *counting) int64 { return c.read.Load() })
	f("libzmq's", zmtp.Heartbeat{}, func(c *counting) int64 { return c.written.Load() },
		zmqHeartbeat, 10, zmqHeartbeatTimeout, int(patience.Milliseconds()))
}

// A peer that stops answering is cut off, and comes back when it can.
func TestSilentPeer(t *testing.T) {
	pub := ours(t, zmtp.Options{Kind: zmtp.XPub, Heartbeat: zmtp.Heartbeat{Interval: 50 * time.Millisecond, Timeout: 200 * time.Millisecond}})
	sub := start(t, "SUB")
	sub.subscribe("a")
	sub.do("connect " + bind(t, pub))
	events(t, pub, "+a 1")
	sub.signal(syscall.SIGSTOP)
	receive(t, pub, func(b *zmtp.Batch) bool { return !b.Subscriptions[0].Subscribe })
	sub.signal(syscall.SIGCONT)
	receive(t, pub, func(b *zmtp.Batch) bool { return b.Subscriptions[0].Subscribe })
}

// A subscriber that stands still costs its own queue, and others nothing.
func TestStalledSubscriber(t *testing.T) {
	const count, highWater = 150_000, 10_000
	pub := ours(t, zmtp.Options{Kind: zmtp.XPub, SendHighWater: highWater})
	endpoint := bind(t, pub)
	stalled := start(t, "SUB", zmqReceiveHWM, 1000)
	stalled.subscribe("a")
	stalled.do("connect " + endpoint)
	events(t, pub, "+a 1")
	stalled.signal(syscall.SIGSTOP)
	healthy := ours(t, zmtp.Options{Kind: zmtp.Sub, ReceiveHighWater: highWater})
	subscribe(t, healthy, "a")
	connect(t, healthy, endpoint)
	reads := events(t, pub, "+a 1")

	go floodAsRead(pub, reads, "a", count, highWater/2)
	next := uint64(0)
	receive(t, healthy, func(b *zmtp.Batch) bool {
		for _, m := range b.Messages {
			if n := binary.BigEndian.Uint64(m[0][1:]); n != next {
				t.Fatalf("message %d where %d is due", n, next)
			}
			next++
		}
		return next == count
	})
	stats := pub.Stats()
	if stats.Dropped == 0 || stats.Sent+stats.Dropped != 2*count {
		t.Errorf("%+v: want drops for the stalled one, and %d in all", stats, 2*count)
	}
	for _, p := range pub.Peers() {
		if p.Queued() > highWater {
			t.Errorf("%d messages wait for one peer", p.Queued())
		}
	}
	stalled.signal(syscall.SIGCONT)
	stalled.begin(fmt.Sprintf("count %d 1", count))
	ctx := patient(t)
	if err := pub.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	pub.Send(numbered("a", count))
	var got, disorder int
	if _, err := fmt.Sscan(stalled.answer(), &got, &disorder); err != nil || disorder > 0 || got >= count {
		t.Errorf("the stalled one received %d, %d of them out of order (%v)", got, disorder, err)
	}
}

// floodAsRead sends numbered messages, as fast as one peer reads them.
func floodAsRead(s *zmtp.Socket, p *zmtp.Peer, topic string, count, queued int) {
	for n := range count {
		for n%100 == 0 && p.Queued() >= queued {
			runtime.Gosched()
		}
		s.Send(numbered(topic, n))
	}
}

func numbered(topic string, n int) []byte {
	return append(binary.BigEndian.AppendUint64([]byte(topic), uint64(n)), make([]byte, 91)...)
}

// A receiver that does not read stops the sender through TCP, not through memory;
// what then arrives is in order.
func TestFullInbox(t *testing.T) {
	pub := start(t, "XPUB", zmqXPubNoDrop, 1)
	sub := ours(t, zmtp.Options{Kind: zmtp.Sub, ReceiveHighWater: 500})
	subscribe(t, sub, "a")
	connect(t, sub, pub.bind())
	pub.expect("\x01a")
	const count = 300_000
	pub.begin(fmt.Sprintf("flood %d 100 -1 %s", count, inHex("a")))
	eventually(t, "something is received", func() bool { return sub.Stats().Received >= 250 })
	if received := sub.Stats().Received; received > 1000 {
		t.Errorf("%d messages wait, at most 500 should", received)
	}
	next := uint64(0)
	receive(t, sub, func(b *zmtp.Batch) bool {
		for _, m := range b.Messages {
			if n := binary.BigEndian.Uint64(m[0][1:]); n != next {
				t.Fatalf("message %d where %d is due", n, next)
			}
			next++
		}
		return next == count
	})
	pub.answer()
}

// Nothing is lost on the way to a libzmq that keeps up.
func TestManyToLibzmq(t *testing.T) {
	const count = 200_000
	pub := ours(t, zmtp.Options{Kind: zmtp.XPub})
	sub := start(t, "SUB", zmqReceiveHWM, 0)
	sub.subscribe("a")
	sub.do("connect " + bind(t, pub))
	events(t, pub, "+a 1")
	sub.begin(fmt.Sprintf("count %d 1", count-1))
	batch := make([]zmtp.Message, 0, 100)
	for n := range count {
		batch = append(batch, zmtp.Message{numbered("a", n), []byte("x")})
		if len(batch) == cap(batch) {
			if _, err := pub.SendWait(patient(t), batch); err != nil {
				t.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	if got := sub.answer(); got != fmt.Sprint(count, " 0") {
		t.Errorf("libzmq counted %s, want %d in order", got, count)
	}
}

// IPv6, and an endpoint that is given up and taken again.
func TestIPv6(t *testing.T) {
	pub := ours(t, zmtp.Options{Kind: zmtp.XPub})
	endpoint, err := pub.Bind("tcp://[::1]:*")
	if err != nil {
		t.Log("this machine has no IPv6: ", err) // The room's own tests have it in memory.
		return
	}
	sub := start(t, "SUB", zmqIPv6, 1)
	sub.subscribe("a")
	for range 2 {
		sub.do("connect " + endpoint)
		events(t, pub, "+a 1")
		send(pub, "a")
		sub.expect("a")
		sub.do("disconnect " + endpoint)
		events(t, pub, "-a 0")
	}
}
