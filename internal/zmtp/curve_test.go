package zmtp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/crypto/nacl/box"
)

func curvePair() (server, client *Curve) {
	public, secret := GenerateKey()
	_, clientSecret := GenerateKey()
	return &Curve{Server: true, Secret: secret}, &Curve{Secret: clientSecret, ServerKey: public}
}

// Messages pass in both roles; both know whom they talk to.
func TestCurve(t *testing.T) {
	server, client := curvePair()
	for _, pubIsServer := range []bool{true, false} {
		pubCurve, subCurve := server, client
		if !pubIsServer {
			pubCurve, subCurve = client, server
		}
		pub := open(t, Options{Kind: XPub, Curve: pubCurve, Welcome: []byte("aW")})
		sub := open(t, Options{Kind: Sub, Curve: subCurve})
		subscribe(t, sub, "a")
		connect(t, sub, bind(t, pub))
		from := expectEvents(t, pub, "+a 1")
		if *from.Key() != subCurve.Secret.Public() {
			t.Errorf("the subscriber is %v", from.Key())
		}
		big := string(bytes.Repeat([]byte("big"), 100_000))
		send(pub, "a", "", big)
		send(pub, "b")
		send(pub, "a", "last")
		publisher := expectMessages(t, sub, "aW", "a||"+big, "a|last")
		if *publisher.Key() != pubCurve.Secret.Public() {
			t.Errorf("the publisher is %v", publisher.Key())
		}
	}
}

// Who has the wrong key for the server, or is not known to it, or speaks in the
// clear, does not come in.
func TestCurveRefuses(t *testing.T) {
	server, client := curvePair()
	known := client.Secret.Public()
	server.Authenticate = func(k Key, remote net.Addr) error {
		if k != known || remote == nil {
			return errors.New("not known")
		}
		return nil
	}
	pub := open(t, Options{Kind: XPub, Curve: server})
	endpoint := bind(t, pub)
	_, stranger := GenerateKey()
	wrong, _ := GenerateKey()
	for _, c := range []*Curve{nil, {Secret: stranger, ServerKey: client.ServerKey}, {Secret: client.Secret, ServerKey: wrong}} {
		before := pub.Stats().Malformed
		sub := open(t, Options{Kind: Sub, Curve: c})
		subscribe(t, sub, "a")
		connect(t, sub, endpoint)
		for pub.Stats().Malformed == before {
			runtime.Gosched()
		}
		if c != nil && c.Secret == stranger { // It is told.
			for sub.Stats().Malformed == 0 {
				runtime.Gosched()
			}
		}
		_ = sub.Close(patient(t))
		if n := len(pub.Peers()); n != 0 {
			t.Errorf("%d peers", n)
		}
	}
	sub := open(t, Options{Kind: Sub, Curve: client})
	subscribe(t, sub, "a")
	connect(t, sub, endpoint)
	expectEvents(t, pub, "+a 1")
}

// handshakes runs both sides of a handshake without a network, and lets change
// touch each command on its way.
func handshakes(change func(step int, name string, rest []byte) []byte) (server, client *agreement, err error) {
	sc, cc := curvePair()
	metadata := appendProperty(nil, "Socket-Type", []byte("SUB"))
	sides := [2]mechanism{sc.mechanism(metadata, nil), cc.mechanism(metadata, nil)}
	var ends [2]*agreement
	next := sides[1].first()
	for step := 0; next != nil; step++ {
		to := step % 2
		name, rest, err := parseCommand(next)
		if err != nil {
			return nil, nil, err
		}
		var end *agreement
		if next, end, err = sides[to].handle(name, change(step, name, rest)); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		if end != nil {
			ends[to] = end
		}
	}
	return ends[0], ends[1], nil
}

func unchanged(_ int, _ string, rest []byte) []byte { return rest }

// Every byte of every command is protected, but for the padding of HELLO.
func TestCurveTampering(t *testing.T) {
	if s, c, err := handshakes(unchanged); err != nil || s.socketType != "SUB" || c.socketType != "SUB" {
		t.Fatal(s, c, err)
	}
	for step, size := range []int{helloSize, welcomeSize, initiateSize + 20, 40} {
		for i := 0; i < size; i += 1 + size/40 {
			if step == 0 && i > 0 && i < 2+helloPadding {
				continue
			}
			_, _, err := handshakes(func(s int, _ string, rest []byte) []byte {
				if s == step {
					rest[i] ^= 1
				}
				return rest
			})
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("byte %d of command %d changed: %v", i, step, err)
			}
		}
	}
}

// A vouch is good for one connection to one server, and the counter goes on.
func TestCurveVouch(t *testing.T) {
	stranger, _ := GenerateKey()
	f := func(want bool, about, to *Key, nonce uint64) {
		t.Helper()
		sc, cc := curvePair()
		metadata := appendProperty(nil, "Socket-Type", []byte("SUB"))
		server := sc.mechanism(metadata, nil).(*curveServer)
		client := cc.mechanism(metadata, nil).(*curveClient)
		_, hello, _ := parseCommand(client.first())
		if _, _, err := server.handle(curveHello, hello); err != nil {
			t.Fatal(err)
		}
		if about == nil {
			about = &client.public
		}
		if to == nil {
			to = &cc.ServerKey
		}
		n := random(nonceVouch)
		public, shared := cc.Secret.Public(), [32]byte{}
		box.Precompute(&shared, (*[32]byte)(&server.public), (*[32]byte)(&client.secret))
		content := slices.Concat(public[:], n[8:], box.Seal(nil, slices.Concat(about[:], to[:]), n, (*[32]byte)(&server.public), (*[32]byte)(&cc.Secret)), metadata)
		initiate := binary.BigEndian.AppendUint64(bytes.Clone(server.cookie), nonce)
		initiate = box.SealAfterPrecomputation(initiate, content, counted(nonceInitiate, nonce), &shared)
		_, end, err := server.handle(curveInitiate, initiate)
		if (err == nil) != want || (end != nil) != want {
			t.Errorf("%v, want success: %v", err, want)
		}
	}
	f(true, nil, nil, 2)
	f(true, nil, nil, 77)
	f(false, &stranger, nil, 2)
	f(false, nil, &stranger, 2)
	f(false, nil, nil, 1)
}

// What is sealed opens once, in order, and nowhere else.
func TestCurveMessages(t *testing.T) {
	s, c, err := handshakes(unchanged)
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]cipher{{s.cipher, c.cipher}, {c.cipher, s.cipher}} {
		var first []byte
		for _, flags := range []byte{0, flagMore, flagCommand} {
			for _, size := range []int{0, 1, 255, 70_000} {
				body := bytes.Repeat([]byte{7}, size)
				sealed := pair[0].seal(nil, flags, body)
				if len(sealed) > pair[0].sealedSize(size) {
					t.Errorf("%d bytes became %d, at most %d", size, len(sealed), pair[0].sealedSize(size))
				}
				outer, claimed, n, err := parseHeader(sealed, 1<<20)
				if err != nil || outer&^flagLong != 0 || claimed != len(sealed)-n {
					t.Fatalf("header % x: %v", sealed[:9], err)
				}
				if _, err := pair[0].open(sealed[n:]); err == nil {
					t.Error("the sender's own side opened it")
				}
				tampered := bytes.Clone(sealed[n:])
				tampered[len(tampered)-1] ^= 1
				got, err := pair[1].open(sealed[n:])
				if err != nil || got.flags != flags || !bytes.Equal(got.body, body) {
					t.Errorf("%d bytes with flags %d came as %d with %d: %v", size, flags, len(got.body), got.flags, err)
				}
				if first == nil {
					first = sealed[n:]
				}
				for _, bad := range [][]byte{first, tampered, body, {}} {
					if _, err := pair[1].open(bad); !errors.Is(err, ErrMalformed) {
						t.Errorf("opened % .20x: %v", bad, err)
					}
				}
			}
		}
	}
}

// FuzzCurve: no command stops either side of a handshake, or gets it further than
// it should.
func FuzzCurve(f *testing.F) {
	f.Add(byte(0), appendCommand(nil, curveHello, make([]byte, helloSize)))
	f.Add(byte(1), appendCommand(nil, curveWelcome, make([]byte, welcomeSize)))
	f.Add(byte(2), appendCommand(nil, curveInitiate, make([]byte, initiateSize+20)))
	f.Add(byte(3), appendCommand(nil, commandReady, make([]byte, 40)))
	f.Add(byte(4), appendCommand(nil, curveMessage, make([]byte, 40)))
	f.Fuzz(func(t *testing.T, at byte, body []byte) {
		name, rest, err := parseCommand(body)
		if err != nil {
			return
		}
		server, client := curvePair()
		sides := [2]mechanism{server.mechanism(nil, nil), client.mechanism(nil, nil)}
		reply := sides[1].first()
		for step := byte(0); step < at%4; step++ { // What is due before it.
			n, r, err := parseCommand(reply)
			if err == nil {
				reply, _, err = sides[step%2].handle(n, r)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, end, err := sides[at%2].handle(name, rest); err == nil || end != nil {
			t.Errorf("%q got through", name)
		}
		s, c, err := handshakes(unchanged)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range []*agreement{s, c} {
			if _, err := a.cipher.open(body); err == nil {
				t.Error("a forged message was opened")
			}
		}
	})
}

// A stream in the clear after a CURVE handshake ends the connection.
func TestCurveClear(t *testing.T) {
	server, client := curvePair()
	sub := open(t, Options{Kind: Sub, Curve: server})
	subscribe(t, sub, "")
	r := dial(t, bind(t, sub))
	r.write(appendGreeting(nil, "CURVE", false))
	m := client.mechanism(appendProperty(nil, "Socket-Type", []byte("PUB")), nil)
	r.write(appendFrame(nil, flagCommand, m.first()))
	greeting := make([]byte, greetingSize)
	if _, err := io.ReadFull(r.conn, greeting); err != nil || greeting[serverOffset] != 1 {
		t.Fatalf("% x, %v", greeting, err)
	}
	in := reader{conn: r.conn, limit: maxHandshakeCommand}
	for {
		f, err := in.next()
		if err != nil {
			t.Fatal(err)
		}
		name, rest, err := parseCommand(f.body)
		if err != nil {
			t.Fatal(err)
		}
		reply, end, err := m.handle(name, rest)
		if err != nil {
			t.Fatal(err)
		}
		if end != nil {
			break
		}
		r.write(appendFrame(nil, flagCommand, reply))
	}
	r.write(message(0, "in the clear"))
	r.expectEnd()
	if s := sub.Stats(); s.Received != 0 {
		t.Errorf("%+v", s)
	}
}
