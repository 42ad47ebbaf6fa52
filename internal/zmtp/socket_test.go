package zmtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// What is published reaches who has subscribed, whoever binds.
func TestPublish(t *testing.T) {
	for _, subscriberBinds := range []bool{false, true} {
		pub := open(t, Options{Kind: XPub})
		sub := open(t, Options{Kind: Sub})
		subscribe(t, sub, "a", "bc")
		if subscriberBinds {
			connect(t, pub, bind(t, sub))
		} else {
			connect(t, sub, bind(t, pub))
		}
		expectEvents(t, pub, "+a 1", "+bc 1")
		big := strings.Repeat("x", 1<<20)
		for _, m := range [][]string{{"abc"}, {"b"}, {"bc", "", "2"}, {"x", "a"}, {"a", big}, {"a"}, {}} {
			send(pub, m...)
		}
		expectMessages(t, sub, "abc", "bc||2", "a|"+big, "a")
		if p, d := send(sub, "a"); p+d != 0 {
			t.Errorf("a subscriber sent to %d, dropped %d", p, d)
		}
		if err := pub.Subscribe(nil); err == nil {
			t.Error("a publisher has subscribed")
		}
	}
}

// One of several prefixes is enough, and two bring a message once. Who subscribes
// to nothing gets nothing.
func TestPrefixes(t *testing.T) {
	pub := open(t, Options{Kind: XPub})
	endpoint := bind(t, pub)
	var subs []*Socket
	for _, prefixes := range [][]string{{"a", "ab", ""}, {"ab"}, {"abc", "x"}} {
		s := open(t, Options{Kind: Sub})
		connect(t, s, endpoint)
		for _, p := range prefixes {
			subscribe(t, s, p)
			expectEvents(t, pub, "+"+p+" 1")
		}
		subs = append(subs, s)
	}
	f := func(topic string, want int) {
		t.Helper()
		if got, dropped := send(pub, topic); got != want || dropped != 0 {
			t.Errorf("%q: %d peers, %d dropped, want %d", topic, got, dropped, want)
		}
	}
	f("", 1)
	f("a", 1)
	f("ab", 2)
	f("abc", 3)
	f("abd", 2)
	f("x", 2)
	f("y", 1)
	expectMessages(t, subs[0], "", "a", "ab", "abc", "abd", "x", "y")
	expectMessages(t, subs[1], "ab", "abc", "abd")
	expectMessages(t, subs[2], "abc", "x")
}

// A peer says by which endpoint it was connected, and from where it came.
func TestPeers(t *testing.T) {
	pub, sub := open(t, Options{Kind: XPub}), open(t, Options{Kind: XSub})
	endpoint := bind(t, pub)
	subscribe(t, sub, "a")
	connect(t, sub, endpoint)
	subscriber := expectEvents(t, pub, "+a 1")
	send(pub, "a")
	publisher := expectMessages(t, sub, "a")
	if subscriber.Endpoint() != "" || publisher.Endpoint() != endpoint || publisher.Key() != nil {
		t.Errorf("endpoints %q and %q", subscriber.Endpoint(), publisher.Endpoint())
	}
	if "tcp://"+publisher.Remote().String() != endpoint || subscriber.Remote().(*net.TCPAddr).IP.String() != "127.0.0.1" {
		t.Errorf("remote addresses %v and %v", subscriber.Remote(), publisher.Remote())
	}
	if !slices.Equal(pub.Peers(), []*Peer{subscriber}) || !slices.Equal(sub.Peers(), []*Peer{publisher}) {
		t.Errorf("peers %v and %v", pub.Peers(), sub.Peers())
	}
}

// A full queue drops whole messages, for its peer only, and counts them.
func TestSendHighWater(t *testing.T) {
	f := func(name string, o Options, m Message) {
		t.Run(name, func(t *testing.T) {
			o.Kind = XPub
			pub := open(t, o)
			r := dial(t, bind(t, pub))
			r.greet("SUB", 1)
			r.expect(ready("XPUB"))
			r.write(command("SUBSCRIBE", "a"))
			expectEvents(t, pub, "+a 1")
			sent, dropped := 0, 0
			for dropped < 1000 { // The kernel has taken what it wanted, and then nothing more.
				s, d := pub.SendBatch([]Message{m, m, m})
				if s+d != 3 {
					t.Fatalf("%d sent, %d dropped", s, d)
				}
				sent, dropped = sent+s, dropped+d
			}
			if s := pub.Stats(); s.Sent != uint64(sent) || s.Dropped != uint64(dropped) {
				t.Errorf("%+v, want %d and %d", s, sent, dropped)
			}
			p := pub.Peers()[0]
			p.queue.mu.Lock()
			if q := p.queue; q.messages > o.SendHighWater || q.bytes > 50*sizeOf(m) {
				t.Errorf("%d messages with %d bytes wait", q.messages, q.bytes)
			}
			p.queue.mu.Unlock()
			for range sent {
				for i, f := range m {
					flags := byte(flagMore)
					if i == len(m)-1 {
						flags = 0
					}
					r.expect(appendFrame(nil, flags, f))
				}
			}
			if err := pub.Flush(patient(t)); err != nil || p.Queued() != 0 {
				t.Errorf("%d messages wait, %v", p.Queued(), err)
			}
		})
	}
	small := Message{[]byte("a"), make([]byte, 100)}
	large := Message{[]byte("a"), make([]byte, 3*MaxCopied), nil, make([]byte, 300)}
	f("small", Options{SendHighWater: 50}, small)
	f("large", Options{SendHighWater: 50}, large)
	f("bytes", Options{SendHighWater: 1 << 30, SendHighWaterBytes: 50 * sizeOf(small)}, small)
}

// SendWait waits in place of dropping, until its context is done or the peer has
// gone.
func TestSendWait(t *testing.T) {
	pub := open(t, Options{Kind: XPub, SendHighWater: 10})
	r := dial(t, bind(t, pub))
	r.greet("SUB", 1)
	r.expect(ready("XPUB"))
	r.write(command("SUBSCRIBE", "a"))
	expectEvents(t, pub, "+a 1")
	messages := slices.Repeat([]Message{{[]byte("a"), make([]byte, 1<<20)}}, 100)
	ctx, cancel := context.WithCancelCause(patient(t))
	enough := errors.New("enough")
	go func() {
		p := pub.Peers()[0]
		for p.Queued() < 10 {
			runtime.Gosched()
		}
		cancel(enough)
	}()
	done, err := pub.SendWait(ctx, messages)
	if !errors.Is(err, enough) || done < 10 || done == len(messages) {
		t.Fatalf("%d were sent, %v", done, err)
	}
	go func() {
		for range 50 {
			r.expect(message(1, "a"), appendHeader(nil, 0, 1<<20), make([]byte, 1<<20))
		}
		_ = r.conn.Close() // For nobody there is always room.
	}()
	if n, err := pub.SendWait(patient(t), messages[done:]); err != nil || done+n != len(messages) {
		t.Errorf("then %d were sent, %v", n, err)
	}
	if s := pub.Stats(); s.Dropped != 0 {
		t.Errorf("%+v", s)
	}
	_ = pub.Close(patient(t))
	if _, err := pub.SendWait(patient(t), messages); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A full inbox stops the readers, which loses nothing; the oldest batch comes
// first, and no peer is shut out.
func TestReceiveHighWater(t *testing.T) {
	const publishers, each = 3, 20_000
	sub := open(t, Options{Kind: Sub, ReceiveHighWater: 100})
	subscribe(t, sub, "")
	endpoint := bind(t, sub)
	var sending sync.WaitGroup
	defer sending.Wait()
	for n := range publishers {
		pub := open(t, Options{Kind: XPub})
		connect(t, pub, endpoint)
		expectEvents(t, pub, "+ 1")
		sending.Go(func() {
			for i := range each {
				m := Message{fmt.Appendf(nil, "%d %06d", n, i), make([]byte, 100)}
				if _, err := pub.SendWait(patient(t), []Message{m}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var next [publishers]int
	for got := 0; got < publishers*each; {
		sub.inbox.mu.Lock()
		if n := sub.inbox.messages; n > max(100, maxBatchMessages) {
			t.Errorf("%d messages wait", n)
		}
		sub.inbox.mu.Unlock()
		b, err := sub.Receive(patient(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range b.Messages {
			var from, i int
			fmt.Sscanf(string(m[0]), "%d %d", &from, &i)
			if i != next[from] {
				t.Fatalf("%d came from %d, want %d", i, from, next[from])
			}
			next[from]++
		}
		got += len(b.Messages)
		b.Release()
	}
}

// A batch longer than what is queued at once is sent whole and in order.
func TestLongBatch(t *testing.T) {
	const count = 3*sentAtOnce + 1
	pub := open(t, Options{Kind: XPub, SendHighWater: count})
	sub := open(t, Options{Kind: Sub})
	subscribe(t, sub, "")
	connect(t, sub, bind(t, pub))
	expectEvents(t, pub, "+ 1")
	var messages []Message
	var want []string
	for n := range count {
		messages = append(messages, Message{fmt.Appendf(nil, "%04d", n)})
		want = append(want, fmt.Sprintf("%04d", n))
	}
	if peers, dropped := pub.SendBatch(messages); peers != count || dropped != 0 {
		t.Errorf("%d sent, %d dropped", peers, dropped)
	}
	expectMessages(t, sub, want...)
	if done, err := pub.SendWait(patient(t), messages); done != count || err != nil {
		t.Errorf("%d sent, %v", done, err)
	}
	expectMessages(t, sub, want...)
}

// A batch that was not released stays as it is.
func TestBatchIsTheReceivers(t *testing.T) {
	pub, sub := open(t, Options{Kind: XPub}), open(t, Options{Kind: Sub})
	subscribe(t, sub, "")
	connect(t, sub, bind(t, pub))
	expectEvents(t, pub, "+ 1")
	var kept []*Batch
	next := 0
	for sent := 0; next < 3000; {
		for range 10 {
			pub.Send(fmt.Appendf(nil, "%05d", sent), make([]byte, sent%(2*ownFrame)), fmt.Appendf(nil, "%05d", sent))
			sent++
		}
		b, err := sub.Receive(patient(t))
		if err != nil {
			t.Fatal(err)
		}
		next += len(b.Messages)
		if len(kept)%2 == 0 {
			b.Messages = slices.Clone(b.Messages)
			kept = append(kept, b)
		} else {
			kept = append(kept, nil)
			b.Release()
		}
	}
	last := ""
	for _, b := range kept {
		if b == nil {
			continue
		}
		for _, m := range b.Messages {
			if len(m) != 3 || string(m[0]) != string(m[2]) || string(m[0]) <= last {
				t.Fatalf("%d frames, %q after %q", len(m), m[0], last)
			}
			last = string(m[0])
		}
	}
}

// Receive ends with its context, and with the socket.
func TestReceiveEnds(t *testing.T) {
	sub := open(t, Options{Kind: Sub})
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if _, err := sub.Receive(ctx); !errors.Is(err, enough) {
		t.Error(err)
	}
	ended := make(chan error)
	for range 2 {
		go func() {
			_, err := sub.Receive(context.Background())
			ended <- err
		}()
	}
	if err := sub.Close(patient(t)); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	}
	_, bound := sub.Bind("tcp://127.0.0.1:*")
	connected := sub.Connect("tcp://127.0.0.1:1")
	if !errors.Is(bound, ErrClosed) || !errors.Is(connected, ErrClosed) || sub.Close(patient(t)) != nil {
		t.Errorf("a closed socket answers %v and %v", bound, connected)
	}
}

func TestEndpoints(t *testing.T) {
	s := open(t, Options{Kind: Pub})
	good := func(endpoint, want string) {
		t.Helper()
		actual, err := s.Bind(endpoint)
		if err != nil || !strings.HasPrefix(actual, want) || strings.HasSuffix(actual, ":0") || strings.HasSuffix(actual, ":*") {
			t.Errorf("%s is %s, want %s…, %v", endpoint, actual, want, err)
			return
		}
		if _, err := s.Bind(actual); err == nil {
			t.Errorf("%s was bound twice", actual)
		}
		if s.Unbind(actual) != nil || s.Unbind(actual) == nil {
			t.Errorf("%s cannot be unbound once", actual)
		}
		if _, err := s.Bind(actual); err != nil {
			t.Errorf("after Unbind: %v", err)
		}
	}
	good("tcp://*:*", "tcp://*:")
	good("tcp://*:0", "tcp://*:")
	good("tcp://127.0.0.1:*", "tcp://127.0.0.1:")
	good("tcp://localhost:*", "tcp://localhost:")
	for _, bad := range []string{"", "tcp://", "tcp://:5556", "127.0.0.1:5556", "udp://127.0.0.1:5556", "ipc:///tmp/x", "tcp://::1:5556", "tcp://h:65536", "tcp://h:-1", "tcp://h:http", "tcp://h:", "tcp://h:+1"} {
		if _, err := s.Bind(bad); !errors.Is(err, ErrEndpoint) {
			t.Errorf("bound %q: %v", bad, err)
		}
		if err := s.Connect(bad); !errors.Is(err, ErrEndpoint) {
			t.Errorf("connected %q: %v", bad, err)
		}
	}
	for _, bad := range []string{"tcp://*:5556", "tcp://127.0.0.1:*", "tcp://127.0.0.1:0"} {
		if err := s.Connect(bad); !errors.Is(err, ErrEndpoint) {
			t.Errorf("connected %q: %v", bad, err)
		}
	}
}

// Too many connections are closed at once, and there is room again when one ends.
func TestMaxPeers(t *testing.T) {
	pub := open(t, Options{Kind: XPub, MaxPeers: 2})
	endpoint := bind(t, pub)
	var rs []raw
	for range 2 {
		r := dial(t, endpoint)
		r.greet("SUB", 1)
		r.expect(ready("XPUB"))
		r.write(command("SUBSCRIBE", "a"))
		expectEvents(t, pub, "+a 1")
		rs = append(rs, r)
	}
	dial(t, endpoint).expectEnd()
	if s := pub.Stats(); s.Refused != 1 || len(pub.Peers()) != 2 {
		t.Errorf("%+v", s)
	}
	_ = rs[0].conn.Close()
	expectEvents(t, pub, "-a 0")
	dial(t, endpoint).greet("SUB", 1)
}

// Senders, subscribers and connections that come and go do not get into each
// other's way.
func TestTurmoil(t *testing.T) {
	pub := open(t, Options{Kind: XPub})
	endpoint := bind(t, pub)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			b, err := pub.Receive(ctx)
			if err != nil {
				return
			}
			b.Release()
		}
	})
	for range 2 {
		running.Go(func() {
			for ctx.Err() == nil {
				send(pub, "abc", "x")
				pub.SendBatch([]Message{{[]byte("b")}, {[]byte("abd")}})
			}
		})
	}
	var subscribing sync.WaitGroup
	for range 4 {
		subscribing.Go(func() {
			sub := open(t, Options{Kind: Sub})
			for range 30 {
				connect(t, sub, endpoint)
				subscribe(t, sub, "a", "ab", "b")
				if _, err := sub.Receive(patient(t)); err != nil {
					t.Error(err)
				}
				for _, p := range []string{"a", "ab", "b"} {
					if err := sub.Unsubscribe([]byte(p)); err != nil {
						t.Error(err)
					}
				}
				if err := sub.Disconnect(endpoint); err != nil {
					t.Error(err)
				}
			}
		})
	}
	subscribing.Wait()
	for len(pub.Peers()) > 0 {
		runtime.Gosched()
	}
	cancel()
	running.Wait()
}
