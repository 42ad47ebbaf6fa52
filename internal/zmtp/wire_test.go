package zmtp

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"
)

// A socket says all 64 bytes of its greeting before it has heard one: libzmq waits
// for them.
func TestGreetingAtOnce(t *testing.T) {
	pub := open(t, Options{Kind: Pub})
	r := dial(t, bind(t, pub))
	ours := greeting(1)
	ours[8] = 0 // The signature's padding is ours to choose.
	r.expect(ours)
	r.write(greeting(1)[:10])
	r.write(greeting(1)[10:])
	r.expect(ready("PUB"))
}

// Peers of ZMTP 3.0 and 3.1 subscribe in both forms, and frames may come byte by
// byte.
func TestBothForms(t *testing.T) {
	for minor := range byte(2) {
		pub := open(t, Options{Kind: XPub, Welcome: []byte("W")})
		r := dial(t, bind(t, pub))
		r.greet("SUB", minor)
		r.expect(ready("XPUB"), message(0, "W"))
		all := bytes.Join([][]byte{
			command("SUBSCRIBE", "a"), message(0, "\x01a"), message(0, "\x01b"), command("SUBSCRIBE", ""),
			message(1, "\x01no"), message(0, "\x01no"), message(0, ""), message(0, "\x02x"), // Messages that ask for nothing.
			command("CANCEL", "a"), message(0, "\x00a"), message(0, "\x00a"), command("CANCEL", "never"),
		}, nil)
		for _, b := range all {
			r.write([]byte{b})
		}
		expectEvents(t, pub, "+a 1", "+a 2", "+b 1", "+ 1", "-a 1", "-a 0")
		send(pub, "a", "")
		r.expect(message(1, "a"), message(0, ""))
		r.write(command("CANCEL", ""))
		expectEvents(t, pub, "- 0")
		send(pub, "a")
		send(pub, "b")
		r.expect(message(0, "b"))
		_ = r.conn.Close()
		expectEvents(t, pub, "-b 0")
	}
}

// A subscriber tells a publisher of ZMTP 3.0 in messages, one of 3.1 in commands.
func TestForms(t *testing.T) {
	for minor := range byte(2) {
		sub := open(t, Options{Kind: Sub})
		subscribe(t, sub, "a", "a", "b")
		r := dial(t, bind(t, sub))
		r.greet("PUB", minor)
		r.expect(ready("SUB"))
		on, off := command("SUBSCRIBE", "c"), command("CANCEL", "a")
		if minor == 0 {
			on, off = message(0, "\x01c"), message(0, "\x00a")
			r.expect(message(0, "\x01a"), message(0, "\x01b"))
		} else {
			r.expect(command("SUBSCRIBE", "a"), command("SUBSCRIBE", "b"))
		}
		subscribe(t, sub, "c")
		for range 2 { // Only the second is told.
			if err := sub.Unsubscribe([]byte("a")); err != nil {
				t.Fatal(err)
			}
		}
		if err := sub.Unsubscribe([]byte("a")); err == nil {
			t.Error("a third Unsubscribe was accepted")
		}
		r.expect(on, off)
		// What comes anyway is sifted out.
		r.write(message(0, "a"), message(1, "b"), message(0, "1"), message(0, ""), message(0, "x"), message(0, "c"))
		expectMessages(t, sub, "b|1", "c")
		if s := sub.Stats(); s.Received != 2 || s.Filtered != 3 {
			t.Errorf("%+v", s)
		}
	}
}

// PING is answered with its context, by every kind of socket; what is unknown is
// ignored.
func TestCommands(t *testing.T) {
	for _, kind := range []Kind{Pub, Sub, XPub, XSub} {
		s := open(t, Options{Kind: kind})
		r := dial(t, bind(t, s))
		other := "SUB"
		if kind == Sub || kind == XSub {
			other = "XPUB"
		}
		r.greet(other, 1)
		r.expect(ready(kind.String()))
		r.write(command("PING", "\x00\x00ctx"), command("PONG", "x"), command("SURPRISE", "?"), command("PING", "\x00\x00"))
		r.expect(command("PONG", "ctx"), command("PONG", ""))
		r.write(command("PING", "\x00\x000123456789abcdefTOO LONG"))
		r.expect(command("PONG", "0123456789abcdef"))
		r.write(command("ERROR", "\x03bye"))
		r.expectEnd()
	}
}

// Who breaks the protocol is cut off and counted; who is there meanwhile does not
// notice.
func TestMalformed(t *testing.T) {
	pub := open(t, Options{Kind: Pub})
	sub := open(t, Options{Kind: Sub, MaxMessage: 1000})
	pubAt, subAt := bind(t, pub), bind(t, sub)
	good := open(t, Options{Kind: Sub})
	subscribe(t, good, "a")
	connect(t, good, pubAt)
	subscribe(t, sub, "")
	bad := 0
	f := func(to string, parts ...[]byte) {
		t.Helper()
		r := dial(t, to)
		r.write(parts...)
		r.expectEnd()
		bad++
	}
	for _, at := range []string{pubAt, subAt} {
		other := "SUB"
		if at == subAt {
			other = "PUB"
		}
		f(at, []byte("GET / HTTP/1.1\r\n\r\n"))
		f(at, []byte("\x01\x00padding-of-zmtp-1"))
		f(at, []byte("\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x01\x02\x00\x00"+strings.Repeat("\x00", 60))) // ZMTP 2.0
		f(at, bytes.Replace(greeting(1), []byte("NULL"), []byte("PLAIN"), 1))                                // One byte more.
		f(at, greeting(1), message(0, "no command"))                                                         // In the handshake.
		f(at, greeting(1), command("HELLO", ""))                                                             // Of another mechanism.
		f(at, greeting(1), command("ERROR", "\x00"))                                                         // Without a reason.
		f(at, greeting(1), command("READY", "\x0bSocket-Type\x00\x00\x00\xffSUB"))                           // A value that is not there.
		f(at, greeting(1), command("READY", "\x00"))                                                         // A property without a name.
		f(at, greeting(1), ready("DEALER"))                                                                  // Wrong company.
		f(at, greeting(1), ready("REQ"))                                                                     //
		f(at, greeting(1), command("READY", ""))                                                             // No socket type.
		f(at, greeting(1), []byte("\x06\x00\x00\x00\x00\x00\x01\x00\x00"))                                   // 64 KiB in a handshake.
		f(at, greeting(1), ready(other), []byte("\x08\x00"))                                                 // A reserved flag.
		f(at, greeting(1), ready(other), []byte("\x05\x04\x03abc"))                                          // A command with more.
		f(at, greeting(1), ready(other), []byte("\x04\x00"))                                                 // A command without a name.
		f(at, greeting(1), ready(other), []byte("\x04\x02\x09x"))                                            // A name that is not there.
		f(at, greeting(1), ready(other), command("PING", "\x00"))                                            // Half a time to live.
		f(at, greeting(1), ready(other), []byte("\x02\xff\xff\xff\xff\xff\xff\xff\xff"))                     // 2⁶⁴-1 bytes.
		f(at, greeting(1), ready(other), []byte("\x02\x00\x00\x00\x00\x7f\xff\xff\xff"))                     // 2 GiB.
	}
	f(subAt, greeting(1), ready("PUB"), bytes.Repeat(message(1, strings.Repeat("x", 255)), 4)) // More than MaxMessage in all.
	for pub.Stats().Malformed+sub.Stats().Malformed < uint64(bad) {
		runtime.Gosched()
	}
	for n := 0; n == 0; {
		n, _ = send(pub, "a", "fine")
	}
	expectMessages(t, good, "a|fine")
}

// Who is refused without having broken a rule is told why.
func TestRefusal(t *testing.T) {
	pub := open(t, Options{Kind: Pub})
	r := dial(t, bind(t, pub))
	r.greet("DEALER", 1)
	r.expect(ready("PUB"), command("ERROR", "\x18Incompatible socket type"))
	r.expectEnd()
}

// A length costs nothing until its bytes are here.
func TestClaims(t *testing.T) {
	sub := open(t, Options{Kind: Sub, MaxMessage: 1 << 30})
	subscribe(t, sub, "")
	endpoint := bind(t, sub)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	long := binary.BigEndian.AppendUint64([]byte{flagLong}, 1<<30)
	for range 50 {
		r := dial(t, endpoint)
		r.greet("PUB", 1)
		r.expect(ready("SUB"), command("SUBSCRIBE", ""))
		r.write(command("PING", "\x00\x00"), long, []byte("a little"))
		r.expect(command("PONG", ""))
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 32<<20 {
		t.Errorf("50 claims of 1 GiB cost %d bytes", grown)
	}
}

// A message of many frames is bounded by their number, too.
func TestManyFrames(t *testing.T) {
	sub := open(t, Options{Kind: Sub})
	subscribe(t, sub, "")
	r := dial(t, bind(t, sub))
	r.greet("PUB", 1)
	r.write(bytes.Repeat(message(1, ""), maxFrames-1), message(0, "last"))
	b, err := sub.Receive(patient(t))
	if err != nil || len(b.Messages) != 1 || len(b.Messages[0]) != maxFrames || string(b.Messages[0][maxFrames-1]) != "last" {
		t.Fatalf("%v: %d messages", err, len(b.Messages))
	}
	r.write(bytes.Repeat(message(1, ""), maxFrames+1))
	r.expectEnd()
}

// MaxMessage is about all frames of a message, and about nothing else.
func TestMaxMessage(t *testing.T) {
	sub := open(t, Options{Kind: Sub, MaxMessage: 400})
	subscribe(t, sub, "")
	r := dial(t, bind(t, sub))
	r.greet("PUB", 1)
	half := strings.Repeat("x", 200)
	var want []string
	for range 5 {
		r.write(message(1, half), message(0, half))
		want = append(want, half+"|"+half)
	}
	expectMessages(t, sub, want...)
	r.write(message(1, half), message(1, half), message(0, "x"))
	r.expectEnd()
}

// Who asks for signs of life and does not read them costs nothing.
func TestPingsUnread(t *testing.T) {
	sub := open(t, Options{Kind: Sub})
	subscribe(t, sub, "")
	r := dial(t, bind(t, sub))
	r.greet("PUB", 1)
	for range 100 {
		r.write(bytes.Repeat(command("PING", "\x00\x000123456789abcdef"), 10_000))
	}
	r.write(message(0, "all read"))
	p := expectMessages(t, sub, "all read")
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	if p.queue.bytes > 2*chunkBytes {
		t.Errorf("%d bytes wait", p.queue.bytes)
	}
}

// A peer may subscribe to much, but not to everything there is.
func TestSubscriptionsAreBounded(t *testing.T) {
	pub := open(t, Options{Kind: Pub})
	r := dial(t, bind(t, pub))
	r.greet("SUB", 1)
	prefix := binary.BigEndian.AppendUint64([]byte{flagLong | flagCommand}, 10+60_000)
	body := appendCommand(nil, commandSubscribe, make([]byte, 60_000))
	for n := range maxSubscriptions/60_000 + 1 {
		binary.BigEndian.PutUint32(body[10:], uint32(n))
		if _, err := r.conn.Write(append(prefix[:9:9], body...)); err != nil {
			break // It has gone.
		}
	}
	r.expectEnd()
	for pub.Stats().Malformed == 0 {
		runtime.Gosched()
	}
	pub.mu.Lock()
	defer pub.mu.Unlock()
	for pub.wantsSize > 0 { // It goes out in pieces.
		pub.mu.Unlock()
		runtime.Gosched()
		pub.mu.Lock()
	}
	if n := len(pub.subscriptions.root.children); n != 0 {
		t.Errorf("%d prefixes stayed", n)
	}
}
