package listener

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What a test's request asks for, in its first byte; four bytes of id follow.
const (
	opEcho   = 'e' // Answer at once.
	opPark   = 'p' // Answer when the test says so.
	opSkip   = 's' // No answer.
	opHangup = 'h'
	opViews  = 'v' // Answer at once, mostly from views.
	opLarge  = 'l' // Answer at once with largeAnswer bytes.
	opHold   = 'b' // Handle waits for the test: the frame stays in use.
	opMute   = 'm' // Answer at once, and mute the connection for muteFor.
)

const largeAnswer = 1 << 20

const muteFor = 30 * time.Second

// request is a frame with its size.
func request(op byte, id int, payload ...byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(5+len(payload)))
	b = append(b, op)
	b = binary.BigEndian.AppendUint32(b, uint32(id))
	return append(b, payload...)
}

// answer is what comes back for a request frame: id, length and sum of what arrived.
func answer(frame []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, 12)
	b = append(b, frame[1:5]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(frame)))
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(frame))
}

// world is a server in a bubble and what its sessions met.
type world struct {
	t       *testing.T
	server  *Server
	l       *memoryListener
	budget  *Budget
	hold    chan struct{} // Closed when opHold may go on.
	handled atomic.Int64
	views   counter // Opened and closed.
	parks   counter // Parked and ended.
	opens   counter // Sessions opened and closed.
	viewErr error   // What views answer after their first half.

	mu struct {
		sync.Mutex
		parked  []*parkedAnswer
		dropped []error
	}
}

// counter counts things that have to end exactly once.
type counter struct{ begun, ended atomic.Int64 }

func (c *counter) check(t *testing.T, what string) {
	t.Helper()
	if b, e := c.begun.Load(), c.ended.Load(); b != e {
		t.Errorf("%s: %d begun, %d ended", what, b, e)
	}
}

// inWorld runs f in a bubble with a server, stops the server and checks that
// nothing is left.
func inWorld(t *testing.T, opts Options, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { inBubble(t, opts, f) })
}

// inBubble is inWorld within a bubble.
func inBubble(t *testing.T, opts Options, f func(t *testing.T, w *world)) {
	t.Helper()
	w := &world{t: t, l: newMemoryListener(), hold: make(chan struct{}), budget: opts.Budget}
	if w.budget == nil {
		w.budget = NewBudget(64 << 20)
	}
	opts.Budget = w.budget
	if opts.MaxFrame == 0 {
		opts.MaxFrame = 100 << 20
	}
	opts.Open = w.open
	opts.Dropped = func(_ net.Addr, err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.mu.dropped = append(w.mu.dropped, err)
	}
	w.server = NewServer(opts)
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.server.Run(w.l); err != nil {
			t.Error(err)
		}
	})
	f(t, w)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w.server.Stop(ctx)
	running.Wait()
	w.checkEnd()
}

func (w *world) checkEnd() {
	w.t.Helper()
	w.views.check(w.t, "views")
	w.parks.check(w.t, "parked answers")
	w.opens.check(w.t, "sessions")
	if n := w.budget.InUse(); n != 0 {
		w.t.Errorf("%d bytes are charged and nobody is there", n)
	}
	if n := w.server.Stats().Open.Load(); n != 0 {
		w.t.Errorf("%d connections are open", n)
	}
}

func (w *world) open(c *Conn) Session {
	w.opens.begun.Add(1)
	return &session{w}
}

func (w *world) dropped() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]error(nil), w.mu.dropped...)
}

// take removes the i-th answer parked.
func (w *world) take(i int) *parkedAnswer {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.mu.parked[i]
	w.mu.parked = append(w.mu.parked[:i], w.mu.parked[i+1:]...)
	return p
}

func (w *world) parkedNow() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.mu.parked)
}

type session struct{ w *world }

func (s *session) Handle(frame []byte, a *Answer) {
	s.w.handled.Add(1)
	if len(frame) < 5 {
		a.Hangup()
		return
	}
	switch frame[0] {
	case opPark:
		p := &parkedAnswer{w: s.w, a: a, out: answer(frame)}
		s.w.parks.begun.Add(1)
		a.Park(p)
		s.w.mu.Lock()
		s.w.mu.parked = append(s.w.mu.parked, p)
		s.w.mu.Unlock()
	case opSkip:
		a.Skip()
	case opHangup:
		a.Hangup()
	case opViews:
		s.w.sendInViews(a, answer(frame))
	case opLarge:
		a.Send(append(binary.BigEndian.AppendUint32(a.Buffer(), largeAnswer), make([]byte, largeAnswer)...))
	case opMute:
		a.Conn().Mute(muteFor)
		a.Send(append(a.Buffer(), answer(frame)...))
	case opHold:
		<-s.w.hold
		a.Send(append(a.Buffer(), answer(frame)...))
	default:
		a.Send(append(a.Buffer(), answer(frame)...))
	}
}

func (s *session) Close() { s.w.opens.ended.Add(1) }

// sendInViews answers with every third byte in a view.
func (w *world) sendInViews(a *Answer, b []byte) {
	out := a.Buffer()
	for i, c := range b {
		if i%3 != 0 {
			out = append(out, c)
			continue
		}
		w.views.begun.Add(1)
		a.Insert(len(out), &view{w: w, b: []byte{c}})
	}
	a.Insert(len(out), w.emptyView())
	a.Send(out)
}

func (w *world) emptyView() *view {
	w.views.begun.Add(1)
	return &view{w: w}
}

type view struct {
	w      *world
	b      []byte
	closed atomic.Bool
}

func (v *view) Size() int { return len(v.b) }

func (v *view) WriteTo(to io.Writer) (int64, error) {
	if v.w.viewErr != nil {
		return 0, v.w.viewErr
	}
	n, err := to.Write(v.b)
	return int64(n), err
}

func (v *view) Close() {
	if v.closed.Swap(true) {
		v.w.t.Error("a view was closed twice")
	}
	v.w.views.ended.Add(1)
}

// parkedAnswer is completed when the test has set ready.
type parkedAnswer struct {
	w     *world
	a     *Answer
	out   []byte
	ready atomic.Bool
	done  atomic.Bool
}

func (p *parkedAnswer) Poll(a *Answer) {
	if a != p.a {
		p.w.t.Error("polled with another's answer")
	}
	if !p.ready.Load() {
		return
	}
	p.end()
	p.w.sendInViews(a, p.out)
}

func (p *parkedAnswer) Cancel() { p.end() }

func (p *parkedAnswer) end() {
	if p.done.Swap(true) {
		p.w.t.Error("a parked answer ended twice")
	}
	p.w.parks.ended.Add(1)
}

func (p *parkedAnswer) release() {
	p.ready.Store(true)
	p.a.Wake()
}

// client is the far end of a connection. What the server sends is read by a
// goroutine as it comes, so that pipes do not block, unless the client is deaf.
type client struct {
	net.Conn
	t    *testing.T
	mu   sync.Mutex
	in   []byte
	err  error
	done chan struct{}
}

func (w *world) dial() *client { return w.dialFrom("10.0.0.1") }

func (w *world) dialFrom(ip string) *client {
	c := w.deaf(ip)
	go func() {
		defer close(c.done)
		buf := make([]byte, 64<<10)
		for {
			n, err := c.Conn.Read(buf)
			c.mu.Lock()
			c.in = append(c.in, buf[:n]...)
			c.err = err
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return c
}

// deaf is a client that reads nothing.
func (w *world) deaf(ip string) *client {
	w.t.Helper()
	nc, err := w.l.dial(ip)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { nc.Close() })
	return &client{Conn: nc, t: w.t, done: make(chan struct{})}
}

func (c *client) send(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Error("send:", err)
	}
}

// got waits until everything is quiet and returns the ids answered so far.
func (c *client) got() (ids []int) {
	c.t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.in
	for len(in) >= 16 {
		ids = append(ids, int(binary.BigEndian.Uint32(in[4:])))
		in = in[16:]
	}
	if len(in) != 0 {
		c.t.Errorf("%d bytes behind the last answer", len(in))
	}
	return ids
}

// closed waits until everything is quiet and reports whether the server has
// closed the connection.
func (c *client) closed() bool {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err != nil
}

// sendSplit sends b in random pieces.
func (c *client) sendSplit(r *rand.Rand, b []byte) {
	for len(b) > 0 {
		n := min(len(b), 1+r.IntN(1<<r.IntN(17)))
		if _, err := c.Write(b[:n]); err != nil {
			return // The test may have closed the connection.
		}
		b = b[n:]
	}
}

// memoryListener hands out pipes with addresses.
type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	writes atomic.Int64 // Calls of Write on the server's side.
}

func newMemoryListener() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
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
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.TCPAddr{Port: 9092} }

func (l *memoryListener) dial(ip string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- &pipe{near, &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}, &l.writes}:
		return far, nil
	case <-l.closed:
		return nil, errors.New("nobody listens")
	}
}

type pipe struct {
	net.Conn
	remote net.Addr
	writes *atomic.Int64
}

func (p *pipe) RemoteAddr() net.Addr { return p.remote }

func (p *pipe) Write(b []byte) (int, error) {
	p.writes.Add(1)
	return p.Conn.Write(b)
}
