package zmtp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"
)

// ErrEndpoint is the answer to an endpoint that is not understood or not known.
var ErrEndpoint = errors.New("bad endpoint")

// splitEndpoint cuts tcp://HOST:PORT; IPv6 addresses stand in brackets.
func splitEndpoint(endpoint string) (host, port string, err error) {
	address, ok := strings.CutPrefix(endpoint, "tcp://")
	if !ok {
		return "", "", fmt.Errorf("zmtp: %w: %q does not begin with tcp://", ErrEndpoint, endpoint)
	}
	host, port, err = net.SplitHostPort(address)
	if err != nil {
		return "", "", fmt.Errorf("zmtp: %w: %q: %w", ErrEndpoint, endpoint, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); port != "*" && (err != nil || strconv.FormatUint(n, 10) != port) {
		return "", "", fmt.Errorf("zmtp: %w: %q has no valid port", ErrEndpoint, endpoint)
	}
	if host == "" {
		return "", "", fmt.Errorf("zmtp: %w: %q has no host", ErrEndpoint, endpoint)
	}
	return host, port, nil
}

// Bind listens on an endpoint: tcp://127.0.0.1:5556, tcp://[::1]:5556, tcp://*:5556
// for all addresses of the machine, IPv6 included. Port 0 or * is any that is
// free. It returns the endpoint with the port in use, which Unbind wants.
func (s *Socket) Bind(endpoint string) (actual string, err error) {
	host, port, err := splitEndpoint(endpoint)
	if err != nil {
		return "", err
	}
	if port == "*" {
		port = "0"
	}
	address := net.JoinHostPort(strings.TrimPrefix(host, "*"), port)
	l, err := s.options.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("zmtp: bind %s: %w", endpoint, err)
	}
	if _, p, err := net.SplitHostPort(l.Addr().String()); err == nil {
		port = p
	}
	actual = "tcp://" + net.JoinHostPort(host, port)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = l.Close()
		return "", ErrClosed
	}
	s.listeners[actual] = l
	s.running.Go(func() { s.accept(l) })
	return actual, nil
}

// Unbind stops listening on an endpoint that Bind returned. Connections that it
// accepted stay.
func (s *Socket) Unbind(actual string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.listeners[actual]
	if l == nil {
		return fmt.Errorf("zmtp: %w: %q is not bound", ErrEndpoint, actual)
	}
	delete(s.listeners, actual)
	return l.Close()
}

// accept runs until the listener is closed. Other errors, such as too many open
// files, pass: it waits a little and goes on.
func (s *Socket) accept(l net.Listener) {
	const pause = 50 * time.Millisecond
	for {
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			s.log.Warn("accept failed", "err", err)
			if s.isClosed() {
				return
			}
			time.Sleep(pause)
		default:
			s.running.Go(func() { s.serve(conn, "") })
		}
	}
}

func (s *Socket) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// connector is one endpoint that the socket is to be connected to.
type connector struct {
	cancel context.CancelFunc
	again  chan struct{} // Has something when it is to be dialled at once.
}

// Connect makes the socket dial endpoint in the background, again and again until
// Disconnect: also when there is nobody yet, and when a connection ends. An
// endpoint that is connected already stays as it is; one that waits to be dialled
// again does not wait any longer.
func (s *Socket) Connect(endpoint string) error {
	host, port, err := splitEndpoint(endpoint)
	if err != nil {
		return err
	}
	if host == "*" || port == "*" || port == "0" {
		return fmt.Errorf("zmtp: %w: %q cannot be connected to", ErrEndpoint, endpoint)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if c := s.connectors[endpoint]; c != nil {
		c.hurry()
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &connector{cancel, make(chan struct{}, 1)}
	s.connectors[endpoint] = c
	s.running.Go(func() { s.keepConnected(ctx, c.again, endpoint, net.JoinHostPort(host, port)) })
	return nil
}

func (c *connector) hurry() {
	select {
	case c.again <- struct{}{}:
	default:
	}
}

// Disconnect takes back a Connect. A publisher sends what is queued first, for up
// to Linger, in the background; a subscriber receives nothing more from there but
// what is received already.
func (s *Socket) Disconnect(endpoint string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.connectors[endpoint]
	if c == nil {
		return fmt.Errorf("zmtp: %w: %q is not connected", ErrEndpoint, endpoint)
	}
	delete(s.connectors, endpoint)
	c.cancel()
	for p := range s.peers {
		if p.endpoint == endpoint {
			p.finishLocked()
			p.deadline = time.AfterFunc(max(s.options.Linger, 0), p.sever)
		}
	}
	return nil
}

func (s *Socket) keepConnected(ctx context.Context, again <-chan struct{}, endpoint, address string) {
	pause := s.options.ReconnectMin
	for ctx.Err() == nil {
		conn, err := s.options.Dial(ctx, "tcp", address)
		if err != nil {
			s.log.Debug("dial failed", "peer", endpoint, "err", err)
		} else if ctx.Err() != nil {
			_ = conn.Close()
			return
		} else if s.serve(conn, endpoint) {
			pause = s.options.ReconnectMin
		}
		select {
		case <-ctx.Done():
		case <-again:
		case <-time.After(pause + rand.N(pause/2+1)):
		}
		pause = min(2*pause, max(s.options.ReconnectMin, s.options.ReconnectMax))
	}
}
