// Package conn knows one connection to one broker: dialling when it is first
// needed and again after it broke, which versions both sides speak, and many
// requests in flight answered in order. It never knows clusters, leaders or
// what a request means.
package conn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/wire"
)

// Sentinels of [Conn.Do].
var (
	// ErrClosed says that Close was called.
	ErrClosed = errors.New("conn: closed")
	// ErrUnsupported says that the broker does not speak this request in any
	// version that we speak.
	ErrUnsupported = errors.New("conn: request not supported by the broker")
	// ErrProtocol says that the broker's bytes made no sense.
	ErrProtocol = errors.New("conn: protocol violated by the broker")
)

// Options of a Conn. The zero value is usable.
type Options struct {
	// ClientID is what the broker sees in its logs and quotas.
	ClientID string
	// SoftwareVersion is told to the broker beside the name "barnabas" (KIP-511).
	SoftwareVersion string
	// Dial opens the connection; nil means TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// ConnectTimeout bounds dialling and the first exchange; 0 means 10 s.
	ConnectTimeout time.Duration
	// MaxResponse bounds an answer in bytes; 0 means 256 MiB, more than any
	// fetch.max.bytes in use.
	MaxResponse int
}

func (o Options) filled() Options {
	if o.SoftwareVersion == "" {
		o.SoftwareVersion = "unknown"
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	if o.ConnectTimeout <= 0 {
		o.ConnectTimeout = 10 * time.Second
	}
	if o.MaxResponse <= 0 {
		o.MaxResponse = 256 << 20
	}
	return o
}

// Conn is a connection to one broker. Its methods may be called by many
// goroutines at once.
type Conn struct {
	address string
	opts    Options
	mu      struct {
		sync.Mutex
		closed  bool
		session *session      // nil when there is none, or it is being made
		making  chan struct{} // closed when the session being made is there or failed
	}
}

// New returns a connection that dials when it is first used.
func New(address string, o Options) *Conn {
	return &Conn{address: address, opts: o.filled()}
}

// Address is what New was given.
func (c *Conn) Address() string { return c.address }

// Do sends a request in the newest version that both sides speak, and returns
// the answer, whose memory is the caller's. Requests are sent in the order of
// the calls. A produce request with acks=0 has no answer: an empty one is
// returned once the request is handed to the connection.
//
// When ctx ends, Do returns its cause. If that is a deadline the connection is
// given up, since a broker that let one pass would make the next request wait
// too. An error says nothing about whether the broker acted.
func (c *Conn) Do(ctx context.Context, req wire.Request) (wire.Response, error) {
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := s.do(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("conn: %s: %s: %w", c.address, req.Key(), err)
	}
	return resp, nil
}

// Version is the one that Do would use for a request of that key.
func (c *Conn) Version(ctx context.Context, key wire.Key) (int16, error) {
	s, err := c.session(ctx)
	if err != nil {
		return 0, err
	}
	return s.version(key)
}

// session returns the live session, or makes one; of several callers one dials
// and the others wait for it.
func (c *Conn) session(ctx context.Context) (*session, error) {
	for {
		c.mu.Lock()
		switch {
		case c.mu.closed:
			c.mu.Unlock()
			return nil, ErrClosed
		case c.mu.session != nil && c.mu.session.alive():
			s := c.mu.session
			c.mu.Unlock()
			return s, nil
		case c.mu.making == nil:
			making := make(chan struct{})
			c.mu.session, c.mu.making = nil, making
			c.mu.Unlock()
			return c.make(ctx, making)
		}
		making := c.mu.making
		c.mu.Unlock()
		select {
		case <-making:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (c *Conn) make(ctx context.Context, making chan struct{}) (*session, error) {
	s, err := c.connect(ctx)
	c.mu.Lock()
	c.mu.making = nil
	closed := c.mu.closed
	if err == nil && !closed {
		c.mu.session = s
	}
	c.mu.Unlock()
	close(making)
	if err != nil {
		return nil, fmt.Errorf("conn: connect %s: %w", c.address, err)
	}
	if closed {
		s.fail(ErrClosed)
		s.wait()
		return nil, ErrClosed
	}
	return s, nil
}

// Close ends the connection; requests in flight fail with ErrClosed. It returns
// when the connection's goroutines are gone.
func (c *Conn) Close() error {
	c.mu.Lock()
	s := c.mu.session
	c.mu.closed, c.mu.session = true, nil
	c.mu.Unlock()
	if s != nil {
		s.fail(ErrClosed)
		s.wait()
	}
	return nil
}
