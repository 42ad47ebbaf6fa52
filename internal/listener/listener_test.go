package listener

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever order parked answers are released in, and however the bytes are
// split, answers come in the order of the requests, whole, and once.
func TestOrder(t *testing.T) {
	for seed := range uint64(100) {
		testOrder(t, seed, false)
	}
}

// The same with a client that dies on the way: everything is given back.
func TestDeath(t *testing.T) {
	for seed := range uint64(100) {
		testOrder(t, seed, true)
	}
}

func testOrder(t *testing.T, seed uint64, death bool) {
	inWorld(t, Options{}, func(t *testing.T, w *world) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := w.dial()
		var want []int
		var stream []byte
		n := 20 + r.IntN(100)
		for id := range n {
			op := []byte{opEcho, opPark, opPark, opSkip, opViews}[r.IntN(5)]
			if op != opSkip {
				want = append(want, id)
			}
			stream = append(stream, request(op, id, make([]byte, r.IntN(1<<r.IntN(15)))...)...)
		}
		die := len(stream)
		if death {
			die = r.IntN(len(stream))
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.sendSplit(r, stream[:die])
		}()
		wr := rand.New(rand.NewPCG(seed, 2))
		var old []*parkedAnswer
		for {
			synctest.Wait()
			k := w.parkedNow()
			if k == 0 {
				break
			}
			p := w.take(wr.IntN(min(k, 5)))
			old = append(old, p)
			if death && wr.IntN(20) == 0 {
				break
			}
			if wr.IntN(3) == 0 {
				p.a.Wake() // In vain: it is not ready.
			}
			if wr.IntN(3) == 0 { // Late: the answer may be another's by now.
				old[wr.IntN(len(old))].a.Wake()
			}
			p.release()
		}
		if death {
			c.Close()
			<-ended
			return
		}
		<-ended
		if got := c.got(); !slices.Equal(got, want) {
			t.Errorf("seed %d: answers %v, want %v", seed, got, want)
		}
		if d := w.dropped(); len(d) > 0 {
			t.Errorf("seed %d: dropped: %v", seed, d)
		}
	})
}

// Frames around every border of the buffers arrive unharmed.
func TestFrameSizes(t *testing.T) {
	var sizes []int
	for _, border := range []int{5, idleBuffer, smallFrame, busyBuffer, 1<<minClass + slack, 1<<(minClass+1) + slack} {
		for d := -9; d <= 9; d++ {
			if border+d >= 5 {
				sizes = append(sizes, border+d)
			}
		}
	}
	for _, border := range []int{bodyStep, firstBody, firstBody + slack, 4 * (firstBody + slack)} { // The last: it grows twice.
		sizes = append(sizes, border-1, border, border+1)
	}
	for seed := range uint64(2) {
		inWorld(t, Options{}, func(t *testing.T, w *world) {
			r := rand.New(rand.NewPCG(seed, 3))
			r.Shuffle(len(sizes), func(i, j int) { sizes[i], sizes[j] = sizes[j], sizes[i] })
			c := w.dial()
			var want []byte
			for id, n := range sizes {
				payload := make([]byte, n-5)
				for i := range payload {
					payload[i] = byte(r.Uint32())
				}
				b := request(opEcho, id, payload...)
				want = append(want, answer(b[4:])...)
				c.sendSplit(r, b)
			}
			synctest.Wait()
			if c.mu.Lock(); !slices.Equal(c.in, want) {
				t.Errorf("seed %d: the answers are not of the requests", seed)
			}
			c.mu.Unlock()
		})
	}
}

// A size that cannot be ends the connection, after what was asked before it is
// answered.
func TestBadSize(t *testing.T) {
	f := func(size int64) {
		t.Helper()
		inWorld(t, Options{MaxFrame: 1000}, func(t *testing.T, w *world) {
			c := w.dial()
			bad := binary.BigEndian.AppendUint32(nil, uint32(size))
			c.send(slices.Concat(request(opPark, 1), request(opEcho, 2), bad))
			if c.closed() {
				t.Errorf("%d: closed before the answers", size)
			}
			w.take(0).release()
			if got := c.got(); !slices.Equal(got, []int{1, 2}) || !c.closed() {
				t.Errorf("%d: answers %v, closed %v", size, got, c.closed())
			}
			if d := w.dropped(); len(d) != 1 || !errors.Is(d[0], errFrameSize) {
				t.Errorf("%d: dropped %v", size, d)
			}
		})
	}
	f(-1)
	f(-1 << 31)
	f(1001)
	f(1<<31 - 1)
}

// A request of no bytes is the session's to refuse.
func TestEmptyFrame(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w *world) {
		c := w.dial()
		c.send(make([]byte, 4))
		if !c.closed() || w.handled.Load() != 1 {
			t.Error("an empty frame was not handled")
		}
	})
}

// A hangup waits for the answers before it; nothing behind it is handled.
func TestHangup(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w *world) {
		c := w.dial()
		c.send(slices.Concat(request(opPark, 1), request(opEcho, 2), request(opHangup, 3), request(opEcho, 4)))
		if got := c.got(); len(got) != 0 || c.closed() {
			t.Errorf("answers %v before the first is ready", got)
		}
		w.take(0).release()
		if got := c.got(); !slices.Equal(got, []int{1, 2}) || !c.closed() {
			t.Errorf("answers %v, closed %v", got, c.closed())
		}
		if n := w.handled.Load(); n != 3 {
			t.Errorf("%d requests were handled", n)
		}
	})
}

// Small answers share writes.
func TestCoalescing(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w *world) {
		c := w.dial()
		var b []byte
		for id := range 300 {
			b = append(b, request(opEcho, id)...)
		}
		c.send(b) // 2,700 bytes: one read.
		if got := len(c.got()); got != 300 {
			t.Errorf("%d answers", got)
		}
		if n := w.l.writes.Load(); n > 3 { // One, and one each time that maxQueued is full.
			t.Errorf("%d writes for 300 small answers", n)
		}
	})
}

// A client that reads nothing is not read for ever, and is closed when it has
// not read for the idle time.
func TestDeafClient(t *testing.T) {
	f := func(op byte, atMost int64) {
		t.Helper()
		inWorld(t, Options{Idle: time.Minute}, func(t *testing.T, w *world) {
			c := w.deaf("10.0.0.1")
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for id := 0; ; id++ {
					if _, err := c.Write(request(op, id)); err != nil {
						return
					}
				}
			}()
			synctest.Wait()
			if n := w.handled.Load(); n > atMost {
				t.Errorf("%c: %d requests were handled, at most %d", op, n, atMost)
			}
			if w.server.Stats().Open.Load() != 1 {
				t.Errorf("%c: closed at once", op)
			}
			if op == opPark { // Not deaf, only asking much: waiting for it is no reason to close.
				time.Sleep(10 * time.Minute)
				if w.server.Stats().Open.Load() != 1 {
					t.Error("closed with answers due")
				}
				over, cancel := context.WithCancel(t.Context())
				cancel()
				w.server.Stop(over)
			}
			<-ended // The server has closed.
		})
	}
	f(opEcho, maxQueued+1)
	f(opLarge, maxQueuedBytes/largeAnswer+1)
	f(opViews, maxQueued+1)
	f(opPark, maxQueued)
}

// Frames larger than the budget pass alone; a spent budget stops large frames
// and lets small ones pass.
func TestBudgetPauses(t *testing.T) {
	inWorld(t, Options{Budget: NewBudget(1 << 20)}, func(t *testing.T, w *world) {
		holder, large, small := w.dial(), w.dial(), w.dial()
		holder.send(request(opHold, 1, make([]byte, 2<<20)...)) // More than all.
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			large.send(request(opEcho, 2, make([]byte, 100<<10)...))
		}()
		small.send(request(opEcho, 3))
		if got := small.got(); !slices.Equal(got, []int{3}) {
			t.Errorf("small: answers %v", got)
		}
		if got := large.got(); len(got) != 0 || w.handled.Load() != 2 {
			t.Errorf("large: answers %v while the budget is spent", got)
		}
		close(w.hold)
		<-sent
		if got := large.got(); !slices.Equal(got, []int{2}) {
			t.Errorf("large: answers %v", got)
		}
	})
}

// Answers that are ready do not wait with the reader for the budget.
func TestBudgetWaitFlushes(t *testing.T) {
	inWorld(t, Options{Budget: NewBudget(1 << 20)}, func(t *testing.T, w *world) {
		holder, c := w.dial(), w.dial()
		holder.send(request(opHold, 1, make([]byte, 2<<20)...))
		// Fill the small buffer exactly, so that the rest is read with the large
		// one and lies there as a whole.
		c.send(slices.Concat(request(opEcho, 1, make([]byte, idleBuffer-9)...),
			request(opEcho, 2), request(opEcho, 3, make([]byte, smallFrame)...)))
		if got := c.got(); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("answers %v while the third request waits for the budget", got)
		}
		close(w.hold)
		if got := c.got(); !slices.Equal(got, []int{1, 2, 3}) {
			t.Errorf("answers %v", got)
		}
	})
}

// However many clients want however much, all are served.
func TestBudgetNeverDeadlocks(t *testing.T) {
	for seed := range uint64(20) {
		inWorld(t, Options{Budget: NewBudget(600 << 10), Idle: time.Hour}, func(t *testing.T, w *world) {
			r := rand.New(rand.NewPCG(seed, 4))
			var clients []*client
			for range 8 {
				c, seed := w.dial(), r.Uint64()
				clients = append(clients, c)
				go func() {
					r := rand.New(rand.NewPCG(seed, 5))
					for id := range 10 {
						c.sendSplit(r, request(opEcho, id, make([]byte, r.IntN(1<<r.IntN(20)))...))
					}
				}()
			}
			for i, c := range clients {
				if got := c.got(); len(got) != 10 || !slices.IsSorted(got) {
					t.Errorf("seed %d: client %d: answers %v", seed, i, got)
				}
			}
		})
	}
}

// Who claims much and sends little keeps nobody waiting.
func TestBudgetStalled(t *testing.T) {
	inWorld(t, Options{Budget: NewBudget(1 << 20), Idle: time.Hour}, func(t *testing.T, w *world) {
		var stalled []*client
		for id := range 8 {
			c := w.dial()
			c.send(request(opEcho, id, make([]byte, 2<<20)...)[:idleBuffer])
			stalled = append(stalled, c)
		}
		synctest.Wait()
		if n := w.budget.InUse(); n != 8*firstBody {
			t.Errorf("%d bytes are charged", n)
		}
		c := w.dial()
		c.send(request(opEcho, 9, make([]byte, 200<<10)...))
		if got := c.got(); !slices.Equal(got, []int{9}) {
			t.Errorf("answers %v", got)
		}
		for i, c := range stalled {
			if c.closed() {
				t.Errorf("client %d was closed, so others may have waited for that", i)
			}
		}
	})
}

// The budget is first come, first served, and exact.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pool
		p.init(100)
		var mu sync.Mutex
		var order []int
		stop := make(chan struct{})
		take := func(c *claim, n int, stop <-chan struct{}) *claim {
			go func() {
				if c.acquire(n, stop) {
					mu.Lock()
					defer mu.Unlock()
					order = append(order, n)
				}
			}()
			synctest.Wait()
			return c
		}
		check := func(inUse int64, want ...int) {
			t.Helper()
			synctest.Wait()
			slices.Sort(order) // Those of one release.
			if !slices.Equal(order, want) || p.inUse() != inUse {
				t.Errorf("granted %v, %d in use; want %v, %d", order, p.inUse(), want, inUse)
			}
			order = nil
		}
		fresh := func() *claim { return &claim{pool: &p} }
		a := take(fresh(), 60, nil)
		take(fresh(), 50, stop)      // Does not fit, and gives up below.
		b := take(fresh(), 500, nil) // Fits only alone.
		c := take(fresh(), 1, nil)   // Would fit, but is last.
		if fresh().try(1) {
			t.Error("somebody passed those who wait")
		}
		close(stop)
		check(60, 60)
		a.release()
		check(500, 500)
		b.release()
		check(1, 1)

		// Who has begun goes before who has not, and one of them beyond the budget.
		take(a, 50, nil)
		take(b, 49, nil)
		check(100, 49, 50)
		d := take(fresh(), 10, nil)
		take(a, 1000, nil)
		check(1100, 1000)
		take(b, 2000, nil)
		take(c, 3, nil)
		take(a, 1, nil) // It waits for nobody.
		check(1101, 1)
		a.release()
		check(2050, 2000)
		b.release()
		check(14, 3, 10)
		c.release()
		d.release()
		check(0)
	})
}

// A size without its body costs nothing; a body that stops coming ends the
// connection after 30 seconds, one that comes slowly goes on.
func TestSlowBody(t *testing.T) {
	inWorld(t, Options{Idle: time.Hour}, func(t *testing.T, w *world) {
		c := w.dial()
		c.send(request(opEcho, 1, make([]byte, 50<<20)...)[:4+100])
		synctest.Wait()
		if n := w.budget.InUse(); n != 0 {
			t.Errorf("a size and 100 bytes cost %d", n)
		}
		time.Sleep(29 * time.Second)
		if c.closed() {
			t.Error("closed too early")
		}
		time.Sleep(2 * time.Second)
		if d := w.dropped(); !c.closed() || len(d) != 1 || !errors.Is(d[0], errSlowBody) {
			t.Errorf("closed %v, dropped %v", c.closed(), d)
		}
	})
	inWorld(t, Options{Idle: time.Hour}, func(t *testing.T, w *world) {
		c := w.dial()
		b := request(opEcho, 1, make([]byte, 4<<20)...)
		for len(b) > 0 {
			n := min(len(b), bodyStep)
			c.send(b[:n])
			b = b[n:]
			time.Sleep(20 * time.Second)
		}
		if got := c.got(); !slices.Equal(got, []int{1}) {
			t.Errorf("answers %v", got)
		}
	})
}

// Silence ends a connection, but not while an answer is due.
func TestIdle(t *testing.T) {
	inWorld(t, Options{Idle: time.Minute}, func(t *testing.T, w *world) {
		silent, halfway, waiting := w.dial(), w.dial(), w.dial()
		halfway.send([]byte{0, 0, 0})
		waiting.send(request(opPark, 1))
		time.Sleep(55 * time.Second)
		if silent.closed() || halfway.closed() {
			t.Error("closed too early")
		}
		time.Sleep(10 * time.Second)
		if !silent.closed() || !halfway.closed() {
			t.Error("a silent connection is open")
		}
		time.Sleep(10 * time.Minute)
		if waiting.closed() {
			t.Error("closed with an answer due")
		}
		w.take(0).release()
		if got := waiting.got(); !slices.Equal(got, []int{1}) {
			t.Errorf("answers %v", got)
		}
		time.Sleep(2 * time.Minute)
		if !waiting.closed() {
			t.Error("open after its answer and much silence")
		}
		if d := w.dropped(); len(d) > 0 {
			t.Errorf("dropped %v", d)
		}
	})
}

// Stop sends what becomes ready in time, and closes what does not.
func TestStop(t *testing.T) {
	inWorld(t, Options{Idle: time.Hour}, func(t *testing.T, w *world) {
		idle, ready, never, body := w.dial(), w.dial(), w.dial(), w.dial()
		ready.send(request(opPark, 1))
		synctest.Wait()
		never.send(request(opPark, 2))
		body.send(slices.Concat(request(opEcho, 3), request(opEcho, 4, make([]byte, 20<<10)...)[:15<<10]))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			w.server.Stop(ctx)
		}()
		if !idle.closed() || !body.closed() || ready.closed() || never.closed() {
			t.Errorf("closed: idle %v, amid a body %v, ready %v, never %v", idle.closed(), body.closed(), ready.closed(), never.closed())
		}
		if _, err := w.l.dial("10.0.0.1"); err == nil {
			t.Error("a stopped server accepts")
		}
		w.take(0).release()
		if got := ready.got(); !slices.Equal(got, []int{1}) || !ready.closed() {
			t.Errorf("answers %v, closed %v", got, ready.closed())
		}
		if got := body.got(); !slices.Equal(got, []int{3}) {
			t.Errorf("amid a body: answers %v", got)
		}
		<-stopped
		if ctx.Err() == nil || !never.closed() {
			t.Error("Stop did not wait for what was owed, or did not end it")
		}
		if d := w.dropped(); len(d) > 0 {
			t.Errorf("dropped %v", d)
		}
	})
}

// A view that cannot be read tears the stream: the connection ends and the
// reason is told.
func TestTornView(t *testing.T) {
	torn := errors.New("torn")
	f := func(viewErr, want error) {
		t.Helper()
		inWorld(t, Options{}, func(t *testing.T, w *world) {
			w.viewErr = viewErr
			c := w.dial()
			c.send(slices.Concat(request(opEcho, 1), request(opViews, 2), request(opEcho, 3)))
			if got := c.got(); !slices.Equal(got, []int{1}) || !c.closed() {
				t.Errorf("answers %v, closed %v", got, c.closed())
			}
			if d := w.dropped(); len(d) != 1 || !errors.Is(d[0], want) {
				t.Errorf("dropped %v, want %v", d, want)
			}
		})
	}
	f(torn, torn)
	f(io.ErrUnexpectedEOF, io.ErrUnexpectedEOF)
}
