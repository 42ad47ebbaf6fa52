package zmtp

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/zmtp"
)

// theirKeys makes a pair of keys with libzmq.
func theirKeys(t *testing.T) (public, secret string) {
	t.Helper()
	public, secret, _ = strings.Cut(start(t, "PUB").do("keys"), " ")
	return public, secret
}

func parseKey(t *testing.T, text string) zmtp.Key {
	t.Helper()
	k, err := zmtp.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	if k.String() != text {
		t.Fatalf("%s is written as %s", text, k)
	}
	return k
}

// CURVE in both roles and both directions, with messages of all sizes.
func TestCurve(t *testing.T) {
	serverPublic, serverSecret := theirKeys(t)
	clientPublic, clientSecret := theirKeys(t)
	if got := parseKey(t, serverSecret).Public().String(); got != serverPublic {
		t.Fatalf("the public key is %s, libzmq says %s", got, serverPublic)
	}
	big := strings.Repeat("big", 40_000)
	server := &zmtp.Curve{Server: true, Secret: parseKey(t, serverSecret)}
	client := &zmtp.Curve{Secret: parseKey(t, clientSecret), ServerKey: parseKey(t, serverPublic)}
	theirServer := []any{zmqCurveServer, 1, zmqCurveSecret, serverSecret}
	theirClient := []any{zmqCurveServerKey, serverPublic, zmqCurvePublic, clientPublic, zmqCurveSecret, clientSecret}

	publish := func(name string, curve *zmtp.Curve, theirs []any, key string) {
		t.Run("publish as "+name, func(t *testing.T) {
			pub := ours(t, zmtp.Options{Kind: zmtp.XPub, Curve: curve, Welcome: []byte("aW")})
			sub := start(t, "SUB", theirs...)
			sub.subscribe("a")
			sub.do("connect " + bind(t, pub))
			events(t, pub, "+a 1")
			if got := pub.Peers()[0].Key().String(); got != key {
				t.Errorf("the peer's key is %s, want %s", got, key)
			}
			send(pub, "a", "", "x")
			send(pub, "a"+big)
			sub.expect("aW", "a||x", "a"+big)
			sub.do("cancel " + inHex("a"))
			events(t, pub, "-a 0")
		})
	}
	publish("server", server, theirClient, clientPublic)
	publish("client", client, theirServer, serverPublic)

	listen := func(name string, curve *zmtp.Curve, theirs []any) {
		t.Run("subscribe as "+name, func(t *testing.T) {
			sub := ours(t, zmtp.Options{Kind: zmtp.Sub, Curve: curve, Heartbeat: zmtp.Heartbeat{Interval: 5 * time.Millisecond, Timeout: patience}})
			pub := start(t, "XPUB", append(theirs, zmqHeartbeat, 5, zmqHeartbeatTimeout, 60_000)...)
			subscribe(t, sub, "a")
			connect(t, sub, pub.bind())
			pub.expect("\x01a")
			pub.send("a", "", "x")
			pub.send("a" + big)
			expect(t, sub, "a||x", "a"+big)
			pub.begin(fmt.Sprintf("flood 500 100 57 %s", inHex("a")))
			n := 0
			receive(t, sub, func(b *zmtp.Batch) bool {
				n += len(b.Messages)
				return n == 500
			})
			pub.answer()
			if err := sub.Unsubscribe([]byte("a")); err != nil {
				t.Fatal(err)
			}
			pub.expect("\x00a")
		})
	}
	listen("server", server, theirClient)
	listen("client", client, theirServer)
}

// A server refuses whom its owner does not know.
func TestCurveRefuses(t *testing.T) {
	serverPublic, serverSecret := theirKeys(t)
	clientPublic, clientSecret := theirKeys(t)
	asked := make(chan zmtp.Key, 100)
	pub := ours(t, zmtp.Options{Kind: zmtp.XPub, Curve: &zmtp.Curve{
		Server: true, Secret: parseKey(t, serverSecret),
		Authenticate: func(k zmtp.Key, _ net.Addr) error {
			select {
			case asked <- k:
			default:
			}
			return errors.New("a stranger")
		},
	}})
	endpoint := bind(t, pub)
	sub := start(t, "SUB", zmqCurveServerKey, serverPublic, zmqCurvePublic, clientPublic, zmqCurveSecret, clientSecret)
	sub.subscribe("a")
	sub.do("connect " + endpoint)
	if k := <-asked; k.String() != clientPublic {
		t.Errorf("the owner was asked about %v, not %s", k, clientPublic)
	}
	// libzmq hangs up when it has been told, and does not come again.
	eventually(t, "the refusal is counted", func() bool { return pub.Stats().Malformed == 1 })
	if n := len(pub.Peers()); n != 0 {
		t.Errorf("%d peers", n)
	}
}
