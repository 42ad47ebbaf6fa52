package zmtp

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// memory is a network without ports: pipes between what listens and what dials,
// for tests in virtual time. A pipe holds nothing: who writes waits for a reader.
type memory struct {
	mu        sync.Mutex
	listeners map[string]*memoryListener
	dials     atomic.Int64 // Tried, also in vain.
}

func newMemory() *memory { return &memory{listeners: map[string]*memoryListener{}} }

func (m *memory) options(o Options) Options {
	o.Dial, o.Listen = m.dial, m.listen
	return o
}

type memoryListener struct {
	network *memory
	address string
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

type memoryAddr string

func (memoryAddr) Network() string  { return "tcp" }
func (a memoryAddr) String() string { return string(a) }

func (m *memory) listen(_, address string) (net.Listener, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.listeners[address] != nil {
		return nil, errors.New("the address is in use")
	}
	l := &memoryListener{m, address, make(chan net.Conn), make(chan struct{}), sync.Once{}}
	m.listeners[address] = l
	return l, nil
}

func (m *memory) dial(ctx context.Context, _, address string) (net.Conn, error) {
	m.dials.Add(1)
	m.mu.Lock()
	l := m.listeners[address]
	m.mu.Unlock()
	if l == nil {
		return nil, errors.New("connection refused")
	}
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
	case <-ctx.Done():
	}
	return nil, errors.New("connection refused")
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() {
		l.network.mu.Lock()
		defer l.network.mu.Unlock()
		delete(l.network.listeners, l.address)
		close(l.closed)
	})
	return nil
}

func (l *memoryListener) Addr() net.Addr { return memoryAddr(l.address) }
