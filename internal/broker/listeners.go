package broker

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"slices"
	"sync"
	"syscall"

	"github.com/barnabas-log/barnabas/internal/api"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/listener"
)

// listeners are the doors of the node: those of its file, and those that were
// added while it ran. As in Kafka a listener is known by its name: another
// address for the same name does not count before the next start.
type listeners struct {
	b    *Broker
	news chan struct{} // Something else is wanted.
	mu   struct {
		sync.Mutex
		open    []*door
		wanted  []config.Listener
		stopped bool
	}
}

// door is one listener and what serves it.
type door struct {
	config.Listener
	net    net.Listener
	server *listener.Server // Nil until clients are let in.
}

// Bound is a listener and the address it got.
type Bound struct {
	Name string
	Addr net.Addr
}

// Bound are the listeners and their addresses.
func (b *Broker) Bound() (all []Bound) {
	b.doors.mu.Lock()
	defer b.doors.mu.Unlock()
	for _, d := range b.doors.mu.open {
		all = append(all, Bound{d.Name, d.net.Addr()})
	}
	return all
}

func (l *listeners) init(b *Broker) { l.b, l.news = b, make(chan struct{}, 1) }

// openAll opens the listeners that are wanted at the start. What was set while
// the node ran must not keep it from starting, for then nobody could take it
// back: where it cannot be opened the node's own address of that name is, and
// that one must.
func (l *listeners) openAll(wanted []config.Listener) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.wanted = wanted
	for _, w := range wanted {
		own := slices.IndexFunc(l.b.config.Listeners, func(s config.Listener) bool { return s.Name == w.Name })
		d, err := l.bind(w)
		if err != nil && (own < 0 || l.b.config.Listeners[own] != w) {
			l.b.log("broker").Error("listener not opened", "listener", w.String(), "err", err)
			if own < 0 {
				continue
			}
			d, err = l.bind(l.b.config.Listeners[own])
		}
		if err != nil {
			return err
		}
		l.mu.open = append(l.mu.open, d)
	}
	if len(l.mu.open) == 0 {
		return errors.New("no listener could be opened")
	}
	return nil
}

func (l *listeners) bind(w config.Listener) (*door, error) {
	n, err := l.b.opts.Listen("tcp", w.Address())
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", w.Name, explainListen(err, "listeners"))
	}
	if err := listener.SetBacklog(n, l.b.config.ListenBacklog); err != nil {
		l.b.log("broker").Warn("socket.listen.backlog.size not applied", "listener", w.Name, "err", err)
	}
	return &door{Listener: w, net: n}, nil
}

// explainListen says what to do about an address, a value of that key, on which nobody can listen.
func explainListen(err error, key string) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: stop who has it, or take another port (%s)", err, key)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: it is no address of this machine; take one, or 0.0.0.0 (%s)", err, key)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: ports below 1024 are for the superuser; take another (%s)", err, key)
	}
	return err
}

// advertised is where clients are told to go, by listener.
func (l *listeners) advertised() map[string]api.Address {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]api.Address{}
	for _, d := range l.mu.open {
		out[d.Name] = l.address(d)
	}
	return out
}

// address is where clients of a listener are told to go. Without a host it is
// the address that a client came in by.
func (l *listeners) address(d *door) api.Address {
	for _, a := range l.b.config.Advertised {
		if a.Name == d.Name {
			return api.Address{Host: a.Host, Port: int32(a.Port)}
		}
	}
	if tcp, ok := d.net.Addr().(*net.TCPAddr); ok {
		return api.Address{Port: int32(tcp.Port)}
	}
	return api.Address{Port: int32(d.Port)}
}

// serve lets clients in, and from then on follows what is wanted until ctx
// ends.
func (l *listeners) serve(ctx context.Context, limits *limits) {
	l.mu.Lock()
	for _, d := range l.mu.open {
		l.run(ctx, d, limits)
	}
	l.mu.Unlock()
	l.b.running.Go(func() {
		for {
			select {
			case <-l.news:
				l.follow(ctx, limits)
			case <-ctx.Done():
				return
			}
		}
	})
}

// run makes the server of a door. Caller holds mu.
func (l *listeners) run(ctx context.Context, d *door, limits *limits) {
	c := l.b.config
	d.server = listener.NewServer(listener.Options{
		Budget: l.b.budget, MaxFrame: int(c.RequestMaxBytes), Idle: c.ConnectionsMaxIdle,
		Name: d.Name, Gate: limits.gate,
		SendBuffer: c.SendBufferBytes, ReceiveBuffer: c.ReceiveBufferBytes,
		Open: l.b.api.Serving(ctx, d.Name, l.address(d)), Dropped: l.b.api.Dropped,
	})
	limits.watch(d.server)
	l.b.running.Go(func() {
		if err := d.server.Run(d.net); err != nil {
			l.b.fail(fmt.Errorf("listener %s: %w", d.Name, err))
		}
	})
}

// want says which listeners there should be.
func (l *listeners) want(wanted []config.Listener) {
	l.mu.Lock()
	l.mu.wanted = wanted
	l.mu.Unlock()
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// follow opens what is wanted and missing, and closes what is there and not
// wanted.
func (l *listeners) follow(ctx context.Context, limits *limits) {
	l.mu.Lock()
	missing := missingFrom(l.mu.wanted, l.mu.open)
	var surplus []*door
	l.mu.open = slices.DeleteFunc(l.mu.open, func(d *door) bool {
		unwanted := !slices.ContainsFunc(l.mu.wanted, func(w config.Listener) bool { return w.Name == d.Name })
		if unwanted {
			surplus = append(surplus, d)
		}
		return unwanted
	})
	l.mu.Unlock()
	stopAll(ctx, surplus)
	for _, d := range surplus {
		limits.unwatch(d.server)
		l.b.log("broker").Info("listener closed", "listener", d.Name)
	}
	for _, w := range missing {
		l.add(ctx, w, limits)
	}
}

func missingFrom(wanted []config.Listener, open []*door) (missing []config.Listener) {
	for _, w := range wanted {
		if !slices.ContainsFunc(open, func(d *door) bool { return d.Name == w.Name }) {
			missing = append(missing, w)
		}
	}
	return missing
}

// add opens a listener while the node runs.
func (l *listeners) add(ctx context.Context, w config.Listener, limits *limits) {
	d, err := l.bind(w)
	if err != nil {
		l.b.log("broker").Error("listener not opened", "listener", w.Name, "err", err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.stopped {
		d.net.Close()
		return
	}
	l.mu.open = append(l.mu.open, d)
	l.run(ctx, d, limits)
	l.b.log("broker").Info("listener opened", "listener", d.Name, "address", d.net.Addr().String())
}

// stopAll gives the connections of doors a few seconds to send what they owe.
func stopAll(ctx context.Context, doors []*door) {
	patience, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	var stopping sync.WaitGroup
	for _, d := range doors {
		if d.server == nil {
			d.net.Close()
			continue
		}
		stopping.Go(func() { d.server.Stop(patience) })
	}
	stopping.Wait()
}

// stop closes all doors for good, and returns when the last connection ended.
func (l *listeners) stop(ctx context.Context) {
	l.mu.Lock()
	l.mu.stopped = true
	open := slices.Clone(l.mu.open)
	l.mu.Unlock()
	stopAll(ctx, open)
}

// servers are those that clients are let in by, by name.
func (l *listeners) servers() iter.Seq2[string, *listener.Server] {
	l.mu.Lock()
	open := slices.Clone(l.mu.open)
	l.mu.Unlock()
	return func(yield func(string, *listener.Server) bool) {
		for _, d := range open {
			if d.server != nil && !yield(d.Name, d.server) {
				return
			}
		}
	}
}
