package zmtp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// FuzzGreeting: whatever stands in a greeting, it is refused or understood.
func FuzzGreeting(f *testing.F) {
	f.Add(greeting(0))
	f.Add(greeting(1))
	f.Add(appendGreeting(nil, "CURVE", true))
	f.Add(bytes.Repeat([]byte{0xff}, greetingSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != greetingSize || checkSignature(b[:signatureSize]) != nil {
			return
		}
		_, mechanism, err := parseGreeting(b[signatureSize:])
		if err != nil {
			return
		}
		if len(mechanism) > mechanismSize {
			t.Errorf("mechanism %q", mechanism)
		}
		again := appendGreeting(nil, mechanism, b[serverOffset] == 1)
		if _, m, err := parseGreeting(again[signatureSize:]); err != nil || m != mechanism {
			t.Errorf("%q came back as %q, %v", mechanism, m, err)
		}
	})
}

// FuzzFrames: a stream is cut in the same frames, however it comes, and what is
// cut is what was there.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{}, 3)
	f.Add(bytes.Join([][]byte{message(1, "a"), message(0, ""), command("PING", "\x00\x00"), {2, 0, 0, 0, 0, 0, 0, 1, 0}, make([]byte, 256)}, nil), 5)
	f.Add(append([]byte{2, 0, 0, 0, 0, 0, 0, 0x40, 0}, make([]byte, 0x4000)...), 100)
	f.Add([]byte{2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 1)
	f.Fuzz(func(t *testing.T, stream []byte, step int) {
		whole, wholeErr := cut(stream, len(stream)+1)
		parts, partsErr := cut(stream, max(step, 1))
		if !bytes.Equal(whole, parts) || wholeErr.Error() != partsErr.Error() {
			t.Errorf("at once % x, %v; in parts % x, %v", whole, wholeErr, parts, partsErr)
		}
		if len(whole) > len(stream) {
			t.Errorf("%d bytes were read out of %d", len(whole), len(stream))
		}
	})
}

// cut reads all frames of a stream that comes in steps, and writes them in short
// form.
func cut(stream []byte, step int) (bodies []byte, err error) {
	r := reader{conn: &steps{rest: stream, step: step}, limit: 1 << 20}
	for {
		f, err := r.next()
		if err != nil {
			return bodies, err
		}
		bodies = append(append(bodies, f.flags), f.body...)
	}
}

// steps is a connection from which a few bytes can be read at a time.
type steps struct {
	net.Conn
	rest []byte
	step int
}

func (s *steps) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.step)], s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// FuzzCommand: names and properties are inside what came.
func FuzzCommand(f *testing.F) {
	for _, seed := range []string{
		"", "\x00", "\x05READY", "\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB", "\x05READY\x0bsocket-type\x00\x00\x00\x04XSUB\x08Identity\x00\x00\x00\x00",
		"\x05READY\x01X\xff\xff\xff\xff", "\x05ERROR\x03why", "\x04PING\x00\x00context", "\x09SUBSCRIBEtopic", "\xffshort",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		name, rest, err := parseCommand(body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Error(err)
			}
			return
		}
		if !bytes.Equal(appendCommand(nil, name, rest), body) {
			t.Errorf("%q and %q are not % x", name, rest, body)
		}
		socketType, err := parseProperties(rest)
		if err == nil && len(socketType) > len(rest) {
			t.Errorf("%q came out of % x", socketType, rest)
		}
		_ = peerError(rest)
	})
}

// FuzzSubscriber and FuzzPublisher: nothing that comes after a handshake stops a
// socket.
func FuzzSubscriber(f *testing.F) { fuzzPeer(f, Sub, "PUB") }

// FuzzPublisher is described above.
func FuzzPublisher(f *testing.F) { fuzzPeer(f, XPub, "SUB") }

func fuzzPeer(f *testing.F, kind Kind, other string) {
	f.Add(bytes.Join([][]byte{message(0, "\x01a"), command("SUBSCRIBE", "b"), message(1, "a"), message(0, "b"), command("CANCEL", "b")}, nil))
	f.Add(bytes.Join([][]byte{command("PING", "\x00\x01x"), command("PONG", ""), message(0, "")}, nil))
	f.Add(append([]byte{3, 0, 0, 0, 0, 0, 0, 0x30, 0}, make([]byte, 0x3002)...))
	f.Fuzz(func(t *testing.T, stream []byte) {
		s := New(Options{Kind: kind, ReceiveHighWater: 1 << 30})
		_ = s.Subscribe(nil)
		here, there := net.Pipe()
		s.running.Go(func() { s.serve(here, "") })
		go func() { _, _ = io.Copy(io.Discard, there) }()
		_ = there.SetDeadline(time.Now().Add(patience))
		_, _ = there.Write(append(append(greeting(1), ready(other)...), stream...))
		_ = there.Close()
		s.running.Wait() // The connection has ended; nothing is left of it.
		if s.accepted != 0 || len(s.subscriptions.root.children) != 0 || s.subscriptions.root.used || s.wantsSize != 0 {
			t.Errorf("%d connections and %d bytes of subscriptions stayed", s.accepted, s.wantsSize)
		}
	})
}

// FuzzKey: every key can be read again, and nothing else is a key.
func FuzzKey(f *testing.F) {
	f.Add("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7")
	f.Add("JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := ParseKey(text); err == nil && k.String() != text {
			t.Errorf("%q is written as %q", text, k)
		}
	})
}

// The example of RFC 32, and the key pairs in the manual of libzmq.
func TestKeyText(t *testing.T) {
	public, secret := "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"
	k, err := ParseKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	if k.Public().String() != public || k.String() != secret {
		t.Errorf("%s belongs to %s", k.Public(), k)
	}
	if got := hex.EncodeToString(k[:]); got != "8e0bdd697628b91d8f245587ee95c5b04d48963f79259877b49cd9063aead3b7" {
		t.Errorf("the bytes are %s", got)
	}
	for _, bad := range []string{"", "short", public + "0", "~" + public[1:], "#####" + public[5:]} {
		if _, err := ParseKey(bad); err == nil {
			t.Errorf("%q is a key", bad)
		}
	}
}
