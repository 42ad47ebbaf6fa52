package zmtp

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"

	"golang.org/x/crypto/curve25519"
	"golang.org/x/crypto/nacl/box"
	"golang.org/x/crypto/nacl/secretbox"
)

// Key is a public or secret key of Curve25519, in bytes. As text keys are
// written in Z85 (RFC 32); see [Key.String] and [ParseKey].
type Key [32]byte

// Curve makes a socket speak CURVE, and nothing else. Who is server does not
// depend on who binds.
type Curve struct {
	Server    bool
	Secret    Key // Of this socket; GenerateKey makes one.
	ServerKey Key // Client: the server's public key. Nobody else can answer.

	// Authenticate is asked by a server whether a client may come; an error
	// refuses it. Nil admits every client that knows the server's public key. It is
	// called by the connection's goroutine.
	Authenticate func(client Key, remote net.Addr) error
}

// GenerateKey makes a pair of keys.
func GenerateKey() (public, secret Key) {
	p, s, err := box.GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // crypto/rand never fails.
	}
	return *p, *s
}

// Public returns the public key that belongs to a secret key.
func (k Key) Public() (public Key) {
	curve25519.ScalarBaseMult((*[32]byte)(&public), (*[32]byte)(&k))
	return public
}

// Names and sizes of RFC 26. A short nonce is a counter behind a prefix of 16
// bytes, a long one is random behind a prefix of 8.
const (
	curveHello    = "HELLO"
	curveWelcome  = "WELCOME"
	curveInitiate = "INITIATE"
	curveMessage  = "MESSAGE"

	nonceHello         = "CurveZMQHELLO---"
	nonceInitiate      = "CurveZMQINITIATE"
	nonceReady         = "CurveZMQREADY---"
	nonceMessageClient = "CurveZMQMESSAGEC"
	nonceMessageServer = "CurveZMQMESSAGES"
	nonceWelcome       = "WELCOME-"
	nonceCookie        = "COOKIE--"
	nonceVouch         = "VOUCH---"

	shortNonce = 8
	longNonce  = 16

	helloPadding = 72
	helloSize    = 2 + helloPadding + 32 + shortNonce + 64 + box.Overhead
	cookieSize   = longNonce + 64 + secretbox.Overhead
	welcomeSize  = longNonce + 32 + cookieSize + box.Overhead
	vouchSize    = longNonce + 64 + box.Overhead
	initiateSize = cookieSize + shortNonce + 32 + vouchSize + box.Overhead // And metadata.
)

// counted is a nonce that ends in a counter.
func counted(prefix string, n uint64) *[24]byte {
	var nonce [24]byte
	copy(nonce[:16], prefix)
	binary.BigEndian.PutUint64(nonce[16:], n)
	return &nonce
}

// random returns a nonce that ends in 16 bytes of chance; they are also sent.
func random(prefix string) *[24]byte {
	var nonce [24]byte
	copy(nonce[:8], prefix)
	_, _ = rand.Read(nonce[8:])
	return &nonce
}

// received is a nonce whose 16 bytes came from the peer.
func received(prefix string, b []byte) *[24]byte {
	var nonce [24]byte
	copy(nonce[:8], prefix)
	copy(nonce[8:], b)
	return &nonce
}

func (c *Curve) mechanism(metadata []byte, remote net.Addr) mechanism {
	public, secret := GenerateKey()
	if c.Server {
		return &curveServer{curve: c, metadata: metadata, remote: remote, public: public, secret: secret}
	}
	return &curveClient{curve: c, metadata: metadata, public: public, secret: secret}
}

// errBox is a box that does not open: a wrong key, or tampering.
func errBox(command string) error {
	return fmt.Errorf("%w: the box of %s does not open", ErrMalformed, command)
}

// errStep is a command that is not due, or has a wrong size.
func errStep(command string, size int) error {
	return fmt.Errorf("%w: %.20q of %d bytes in a CURVE handshake", ErrMalformed, command, size)
}

// curveClient is the client's side: HELLO, then INITIATE. Its keys are those of
// one connection.
type curveClient struct {
	curve          *Curve
	metadata       []byte
	public, secret Key
	shared         *[32]byte // Of both connection keys, after WELCOME.
}

func (c *curveClient) first() []byte {
	hello := appendCommand(nil, curveHello, []byte{1, 0}, make([]byte, helloPadding), c.public[:])
	hello = binary.BigEndian.AppendUint64(hello, 1)
	return box.Seal(hello, make([]byte, 64), counted(nonceHello, 1), (*[32]byte)(&c.curve.ServerKey), (*[32]byte)(&c.secret))
}

func (c *curveClient) handle(name string, rest []byte) ([]byte, *agreement, error) {
	switch {
	case name == curveWelcome && len(rest) == welcomeSize && c.shared == nil:
		reply, err := c.initiate(rest)
		return reply, nil, err
	case name == commandReady && len(rest) >= shortNonce+box.Overhead && c.shared != nil:
		end, err := c.ready(rest)
		return nil, end, err
	}
	return nil, nil, errStep(name, len(rest))
}

// initiate opens a WELCOME, and proves with a vouch that the permanent key is
// this connection's.
func (c *curveClient) initiate(welcome []byte) ([]byte, error) {
	nonce := received(nonceWelcome, welcome[:longNonce])
	plain, ok := box.Open(nil, welcome[longNonce:], nonce, (*[32]byte)(&c.curve.ServerKey), (*[32]byte)(&c.secret))
	if !ok {
		return nil, errBox(curveWelcome)
	}
	server, cookie := Key(plain[:32]), plain[32:]
	c.shared = new([32]byte)
	box.Precompute(c.shared, (*[32]byte)(&server), (*[32]byte)(&c.secret))

	public := c.curve.Secret.Public()
	vouched := append(append([]byte(nil), c.public[:]...), c.curve.ServerKey[:]...)
	n := random(nonceVouch)
	content := append(append([]byte(nil), public[:]...), n[8:]...)
	content = box.Seal(content, vouched, n, (*[32]byte)(&server), (*[32]byte)(&c.curve.Secret))
	content = append(content, c.metadata...)

	reply := appendCommand(nil, curveInitiate, cookie)
	reply = binary.BigEndian.AppendUint64(reply, 2)
	return box.SealAfterPrecomputation(reply, content, counted(nonceInitiate, 2), c.shared), nil
}

func (c *curveClient) ready(rest []byte) (*agreement, error) {
	n := binary.BigEndian.Uint64(rest)
	metadata, ok := box.OpenAfterPrecomputation(nil, rest[shortNonce:], counted(nonceReady, n), c.shared)
	if !ok {
		return nil, errBox(commandReady)
	}
	socketType, err := parseProperties(metadata)
	if err != nil {
		return nil, err
	}
	session := newCurveSession(c.shared, nonceMessageClient, nonceMessageServer)
	session.sent, session.got = 2, n
	return &agreement{socketType: socketType, key: &c.curve.ServerKey, cipher: session}, nil
}

// curveServer is the server's side: WELCOME, then READY. Between the two it would
// need to keep nothing but the cookie's key; we keep what we have, since the
// connection is there anyhow and bounded in time.
type curveServer struct {
	curve          *Curve
	metadata       []byte
	remote         net.Addr
	public, secret Key
	client         Key // Of this connection, from HELLO.
	cookie         []byte
	hello          uint64 // Its nonce; INITIATE's has to be larger.
}

func (s *curveServer) first() []byte { return nil }

func (s *curveServer) handle(name string, rest []byte) ([]byte, *agreement, error) {
	switch {
	case name == curveHello && len(rest) == helloSize && s.cookie == nil:
		reply, err := s.welcome(rest)
		return reply, nil, err
	case name == curveInitiate && len(rest) >= initiateSize && s.cookie != nil:
		return s.admit(rest)
	}
	return nil, nil, errStep(name, len(rest))
}

// welcome opens a HELLO and answers it.
func (s *curveServer) welcome(hello []byte) ([]byte, error) {
	if hello[0] != 1 {
		return nil, fmt.Errorf("%w: CURVE version %d", ErrMalformed, hello[0])
	}
	rest := hello[2+helloPadding:]
	s.client, rest = Key(rest[:32]), rest[32:]
	s.hello = binary.BigEndian.Uint64(rest)
	if _, ok := box.Open(nil, rest[shortNonce:], counted(nonceHello, s.hello), (*[32]byte)(&s.client), (*[32]byte)(&s.curve.Secret)); !ok {
		return nil, errBox(curveHello)
	}
	s.cookie = s.bake()
	content := append(append([]byte(nil), s.public[:]...), s.cookie...)
	n := random(nonceWelcome)
	reply := appendCommand(nil, curveWelcome, n[8:])
	return box.Seal(reply, content, n, (*[32]byte)(&s.client), (*[32]byte)(&s.curve.Secret)), nil
}

// bake makes the cookie. Its key is forgotten at once: the cookie comes back as
// it was, or not at all.
func (s *curveServer) bake() []byte {
	var key [32]byte
	_, _ = rand.Read(key[:])
	n := random(nonceCookie)
	secrets := append(append([]byte(nil), s.client[:]...), s.secret[:]...)
	return secretbox.Seal(n[8:], secrets, n, &key)
}

// admit opens an INITIATE, checks the vouch and asks whether the client may come.
func (s *curveServer) admit(initiate []byte) ([]byte, *agreement, error) {
	if string(initiate[:cookieSize]) != string(s.cookie) {
		return nil, nil, fmt.Errorf("%w: another cookie in INITIATE", ErrMalformed)
	}
	rest := initiate[cookieSize:]
	n := binary.BigEndian.Uint64(rest)
	var shared [32]byte
	box.Precompute(&shared, (*[32]byte)(&s.client), (*[32]byte)(&s.secret))
	content, ok := box.OpenAfterPrecomputation(nil, rest[shortNonce:], counted(nonceInitiate, n), &shared)
	if !ok || n <= s.hello {
		return nil, nil, errBox(curveInitiate)
	}
	client := Key(content[:32])
	if err := s.checkVouch(client, content[32:32+vouchSize]); err != nil {
		return nil, nil, err
	}
	socketType, err := parseProperties(content[32+vouchSize:])
	if err != nil {
		return nil, nil, err
	}
	if ask := s.curve.Authenticate; ask != nil {
		if err := ask(client, s.remote); err != nil {
			return nil, nil, &refusal{reasonNotAllowed, fmt.Errorf("%w: client %v: %w", errNotAllowed, client, err)}
		}
	}
	reply := binary.BigEndian.AppendUint64(appendCommand(nil, commandReady), 1)
	reply = box.SealAfterPrecomputation(reply, s.metadata, counted(nonceReady, 1), &shared)
	session := newCurveSession(&shared, nonceMessageServer, nonceMessageClient)
	session.sent, session.got = 1, n
	return reply, &agreement{socketType: socketType, key: &client, cipher: session}, nil
}

// checkVouch makes sure that who holds the permanent key opened this connection.
func (s *curveServer) checkVouch(client Key, vouch []byte) error {
	plain, ok := box.Open(nil, vouch[longNonce:], received(nonceVouch, vouch[:longNonce]), (*[32]byte)(&client), (*[32]byte)(&s.secret))
	public := s.curve.Secret.Public()
	if !ok || Key(plain[:32]) != s.client || Key(plain[32:]) != public {
		return errBox("the vouch")
	}
	return nil
}

// curveSession encrypts frames after the handshake: each is a MESSAGE in a frame of
// its own. The queue's lock guards what concerns sending, the reader's goroutine
// owns the rest.
type curveSession struct {
	shared       [32]byte
	sent, got    uint64   // Counters of the last nonces.
	ours, theirs [24]byte // The nonces: a prefix, and room for the counter.
	plain        []byte   // What was sealed last, to be used again.
	opened       []byte   // What was opened last.
}

func newCurveSession(shared *[32]byte, ours, theirs string) *curveSession {
	return &curveSession{shared: *shared, ours: *counted(ours, 0), theirs: *counted(theirs, 0)}
}

// Flags inside a MESSAGE.
const (
	curveMore    = 1 << 0
	curveCommand = 1 << 1
)

const messageHeader = 1 + len(curveMessage) + shortNonce

func (c *curveSession) sealedSize(body int) int {
	return maxHeader + messageHeader + box.Overhead + 1 + body
}

func (c *curveSession) seal(dst []byte, flags byte, body []byte) []byte {
	inner := flags & flagMore
	if flags&flagCommand != 0 {
		inner |= curveCommand
	}
	c.sent++
	dst = appendHeader(dst, 0, messageHeader+box.Overhead+1+len(body))
	dst = appendCommand(dst, curveMessage)
	dst = binary.BigEndian.AppendUint64(dst, c.sent)
	binary.BigEndian.PutUint64(c.ours[16:], c.sent)
	c.plain = append(append(c.plain[:0], inner), body...)
	dst = box.SealAfterPrecomputation(dst, c.plain, &c.ours, &c.shared)
	if cap(c.plain) > maxBuffer {
		c.plain = nil
	}
	return dst
}

func (c *curveSession) open(body []byte) (frame, error) {
	name, rest, err := parseCommand(body)
	if err != nil || name != curveMessage || len(rest) < shortNonce+box.Overhead+1 {
		return frame{}, fmt.Errorf("%w: a frame in the clear", ErrMalformed)
	}
	n := binary.BigEndian.Uint64(rest)
	if n <= c.got {
		return frame{}, fmt.Errorf("%w: MESSAGE %d after %d", ErrMalformed, n, c.got)
	}
	binary.BigEndian.PutUint64(c.theirs[16:], n)
	opened, ok := box.OpenAfterPrecomputation(c.opened[:0], rest[shortNonce:], &c.theirs, &c.shared)
	if !ok {
		return frame{}, errBox(curveMessage)
	}
	c.got, c.opened = n, opened
	f := frame{flags: opened[0] & curveMore, body: opened[1:]}
	if opened[0]&curveCommand != 0 {
		f.flags |= flagCommand
	}
	if cap(opened) > maxBuffer {
		c.opened, f.owned = nil, true
	}
	return f, nil
}
