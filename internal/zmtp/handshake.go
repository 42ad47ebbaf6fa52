package zmtp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
)

// A greeting (RFC 37): signature ff 0*8 7f, version, mechanism in 20 bytes,
// as-server, filler.
const (
	greetingSize    = 64
	signatureSize   = 10
	mechanismOffset = 12
	mechanismSize   = 20
	serverOffset    = mechanismOffset + mechanismSize

	versionMajor = 3
	versionMinor = 1
)

// errNotAllowed is why a connection is refused that broke no rule.
var errNotAllowed = errors.New("not allowed")

// refusal is an errNotAllowed that the peer is told: its reason goes out in an
// ERROR.
type refusal struct {
	reason string
	error
}

func (r *refusal) Unwrap() error { return r.error }

const (
	reasonSocketType = "Incompatible socket type"
	reasonNotAllowed = "400" // As libzmq's authenticators (RFC 27) say it.

	// farewell is how long a refused peer may take to read why.
	farewell = time.Second
)

func appendGreeting(dst []byte, mechanism string, server bool) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, greetingSize)...)
	g := dst[start:]
	g[0], g[signatureSize-1] = 0xff, 0x7f
	g[signatureSize], g[signatureSize+1] = versionMajor, versionMinor
	copy(g[mechanismOffset:], mechanism)
	if server {
		g[serverOffset] = 1
	}
	return dst
}

// checkSignature finds peers that speak something else, ZMTP 1 and 2 among them,
// before a whole greeting is waited for.
func checkSignature(b []byte) error {
	if b[0] != 0xff || b[signatureSize-1] != 0x7f {
		return fmt.Errorf("%w: a greeting that begins with % x", ErrMalformed, b)
	}
	return nil
}

// parseGreeting reads what follows the signature.
func parseGreeting(b []byte) (minor byte, mechanism string, err error) {
	major, minor := b[0], b[1]
	if major < versionMajor {
		return 0, "", fmt.Errorf("%w: ZMTP %d.%d, at least 3.0 is spoken here", ErrMalformed, major, minor)
	}
	if major > versionMajor {
		minor = versionMinor // It has to speak our version.
	}
	name := b[mechanismOffset-signatureSize:][:mechanismSize]
	return minor, string(bytes.TrimRight(name, "\x00")), nil
}

// mechanism is one side of a handshake. Commands are those of its RFC.
type mechanism interface {
	// first is the command that this side begins with, nil if it waits.
	first() []byte
	// handle takes the peer's next command. The reply, if any, is sent before
	// the handshake's end, which comes with a result.
	handle(name string, rest []byte) (reply []byte, end *agreement, err error)
}

// agreement is what a handshake has found out.
type agreement struct {
	socketType string
	key        *Key   // The peer's, if CURVE proved it.
	cipher     cipher // Nil: none.
}

// cipher is one connection's encryption, in both directions.
type cipher interface {
	sealer
	// open returns the frame that is sealed in a frame's body.
	open(body []byte) (frame, error)
}

// null is the mechanism NULL: both sides say READY.
type null struct{ metadata []byte }

func (n null) first() []byte { return appendCommand(nil, commandReady, n.metadata) }

func (n null) handle(name string, rest []byte) ([]byte, *agreement, error) {
	if name != commandReady {
		return nil, nil, fmt.Errorf("%w: %q in place of READY", ErrMalformed, name)
	}
	socketType, err := parseProperties(rest)
	return nil, &agreement{socketType: socketType}, err
}

// maxHandshakeCommand is more than any command of a handshake needs: INITIATE has
// 257 bytes and metadata.
const maxHandshakeCommand = 8 << 10

// greet is what the peer's queue begins with. All 64 bytes go out at once: some
// peers send theirs only after they have seen ours.
func (p *Peer) greet() {
	name, server := "NULL", false
	if c := p.socket.options.Curve; c != nil {
		name, server = "CURVE", c.Server
	}
	p.queue.raw(appendGreeting(nil, name, server))
}

// shakeHands takes a connection to where messages may pass.
func (p *Peer) shakeHands() error {
	end := time.Now().Add(p.socket.options.HandshakeTimeout)
	if err := p.conn.SetReadDeadline(end); err != nil {
		return err
	}
	m, err := p.readGreeting()
	if err != nil {
		return err
	}
	if first := m.first(); first != nil {
		p.queue.command(first)
	}
	a, err := p.agree(m)
	if err != nil {
		return err
	}
	if !p.socket.options.Kind.speaksTo(a.socketType) {
		err := fmt.Errorf("%w: a %.20q socket at a %v", errNotAllowed, a.socketType, p.socket.options.Kind)
		return &refusal{reasonSocketType, err}
	}
	p.key, p.cipher = a.key, a.cipher
	if a.cipher != nil {
		p.queue.encrypt(a.cipher)
	}
	return p.conn.SetReadDeadline(time.Time{})
}

func (p *Peer) readGreeting() (mechanism, error) {
	b, err := p.in.full(signatureSize)
	if err != nil {
		return nil, err
	}
	if err := checkSignature(b); err != nil {
		return nil, err
	}
	if b, err = p.in.full(greetingSize - signatureSize); err != nil {
		return nil, err
	}
	minor, theirs, err := parseGreeting(b)
	if err != nil {
		return nil, err
	}
	p.minor = minor
	o := &p.socket.options
	metadata := appendProperty(nil, "Socket-Type", []byte(o.Kind.String()))
	ours, m := "NULL", mechanism(null{metadata})
	if o.Curve != nil {
		ours, m = "CURVE", o.Curve.mechanism(metadata, p.remote)
	}
	if theirs != ours {
		return nil, fmt.Errorf("%w: mechanism %q, %s is spoken here", errNotAllowed, theirs, ours)
	}
	return m, nil
}

// agree exchanges commands until the mechanism has ended.
func (p *Peer) agree(m mechanism) (*agreement, error) {
	p.in.limit = maxHandshakeCommand
	for {
		f, err := p.in.next()
		if err != nil {
			return nil, err
		}
		if !f.command() {
			return nil, fmt.Errorf("%w: a message in the handshake", ErrMalformed)
		}
		name, rest, err := parseCommand(f.body)
		if err != nil {
			return nil, err
		}
		if name == commandError {
			return nil, peerError(rest)
		}
		reply, end, err := m.handle(name, rest)
		if err != nil {
			return nil, err
		}
		if reply != nil {
			p.queue.command(reply)
		}
		if end != nil {
			return end, nil
		}
	}
}

// refuse tells the peer why it is not let in, if err says so, and waits until it
// has hung up, for a moment.
func (p *Peer) refuse(err error) {
	var r *refusal
	if !errors.As(err, &r) {
		return
	}
	p.queue.command(appendCommand(nil, commandError, []byte{byte(len(r.reason))}, []byte(r.reason)))
	p.queue.end()
	if p.conn.SetDeadline(time.Now().Add(farewell)) == nil {
		_, _ = io.Copy(io.Discard, p.conn)
	}
}

// peerError is what an ERROR command says: a reason with its length.
func peerError(rest []byte) error {
	if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
		return fmt.Errorf("%w: the peer ended it without a reason", errNotAllowed)
	}
	return fmt.Errorf("%w: the peer says %q", errNotAllowed, rest[1:1+int(rest[0])])
}
